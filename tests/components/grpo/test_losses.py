"""The control of GRPO: SFT's loss, on the prompts that GRPO draws."""

import dataclasses
from pathlib import Path

import pytest
import torch

from components.grpo import local
from components.grpo.config import GrpoConfig
from components.grpo.losses import supervised_loss
from components.grpo.rollout import sample_groups
from components.sft import examples, ranking
from components.sft.config import SftConfig
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from components.shared.prompting.table import PromptRow, read_prompts

CONFIG = GrpoConfig(
    objective="sft",
    steps=4,
    prompts_per_step=2,
    group_size=2,
    max_new_tokens=4,
    learning_rate=5.0e-3,
    eval_every=4,
    dtype="float32",
)


@pytest.mark.parametrize("answers", ["generate", "label_logits", "title_likelihood"])
def test_the_control_has_the_loss_of_sft(answers, prompts_folder: Path, tiny_model_folder: Path) -> None:
    lm, ranker = load(tiny_model_folder, "float32"), Ranker(answers, scale=0.5, fuse=0.2)
    ranker.write(lm.model)
    rows = read_prompts(prompts_folder, "train", 3)
    rows[0] = two_labels = dataclasses.replace(
        rows[0], labels=[1, 2], label_items=rows[0].candidates[:2], label_weights=[3.0, 1.0]
    )
    assert ranking.target_shares(two_labels)[:2] == [0.75, 0.25]
    groups = sample_groups(lm, rows, CONFIG, {}, torch.Generator().manual_seed(0))
    if answers == "generate":
        made = examples.encode(rows, lm.tokenizer, 1024)
        pad = lm.tokenizer.pad_token_id
        losses = [examples.answer_loss(lm.model, examples.collate([one], pad)).item() for one in made]
        expected = sum(losses) / len(losses)
    else:
        config = SftConfig(answers=answers)
        batch = ranking.collate(ranking.encode(rows, lm.tokenizer, config))
        expected = ranking.ranking_loss(lm.model, batch, ranker).item()
    _, figures = supervised_loss(lm.model, groups, torch.float32)
    assert figures["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("answers", ["generate", "title_likelihood"])
def test_the_control_learns_on_the_prompts_of_grpo(
    answers, prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(tiny_model_folder, "float32")
    Ranker(answers, scale=1.0, fuse=0.1).write(lm.model)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    rows, valid = read_prompts(prompts_folder, "train", 2), read_prompts(prompts_folder, "valid", 1)
    drawn: list[list[str]] = []

    def recorded(lm, rows: list[PromptRow], *others):
        drawn.append([row.user_id for row in rows])
        return sample_groups(lm, rows, *others)

    monkeypatch.setattr(local, "sample_groups", recorded)
    for objective in ("sft", "grpo"):
        config = dataclasses.replace(CONFIG, objective=objective)
        folder = tmp_path / objective
        folder.mkdir()
        state = local.train(config, tmp_path / "model", rows, valid, folder)
        if objective == "sft":
            assert state.history["loss"][-1] < state.history["loss"][0]
    assert drawn[:4] == drawn[4:]
