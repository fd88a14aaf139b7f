"""Training to score candidates on top of the retriever: loss, learning, resuming, the weights kept."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.sft import ranking
from components.sft.config import SftConfig
from components.sft.job import run
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import score_all
from components.shared.prompting.table import read_prompts
from data_contracts.tables import PROMPTS

CONFIG = SftConfig(epochs=6, batch_size=4, micro_batch_size=2, learning_rate=5.0e-3, dtype="float32")
SCORING = ("label_logits", "title_likelihood")


def trained(config: SftConfig, prompts: Path, base_model: Path, folder: Path, checkpoints: str = ""):
    given = {"prompts": prompts, "base_model": base_model, "checkpoints": checkpoints}
    return run(config, **given, model=folder / "model", curves=folder / "curves.html")


@pytest.mark.parametrize("answers", SCORING)
def test_the_loss_is_a_softmax_over_weighted_scores(answers, prompts_folder, tiny_model_folder) -> None:
    lm = load(tiny_model_folder, "float32")
    config = dataclasses.replace(CONFIG, answers=answers)
    examples = ranking.encode(read_prompts(prompts_folder, "train", 3), lm.tokenizer, config)
    scores = torch.tensor(score_all(lm, [example["question"] for example in examples])).double()
    retriever = torch.tensor([example["retriever"] for example in examples]).double()
    labels = torch.tensor([example["shares"].index(1.0) for example in examples])
    expected = torch.nn.functional.cross_entropy(0.5 * scores + 2 * retriever, labels, reduction="sum").item()
    ranker = Ranker(answers, scale=0.5, fuse=2.0)
    with torch.inference_mode():
        batch = ranking.collate(examples)
        assert ranking.ranking_loss(lm.model, batch, ranker).item() == pytest.approx(expected / 3, abs=1e-4)
        idle = {
            **examples[0],
            "labels": [-100, -100],
        }  # of a process that has none of its own
        batch = ranking.collate([*examples, idle])
        assert ranking.ranking_loss(lm.model, batch, ranker, 8).item() == pytest.approx(
            expected / 8, abs=1e-4
        )


def test_negatives_are_a_seeded_sample_with_their_own_scores(prompts_folder, tiny_model_folder) -> None:
    tokenizer = load(tiny_model_folder, "float32").tokenizer
    row = read_prompts(prompts_folder, "train", 1)[0]
    row = dataclasses.replace(row, scores=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    (label,) = row.labels

    def scored(config: SftConfig) -> list[ranking.Example]:
        return ranking.encode([row] * 20, tokenizer, config)

    config = dataclasses.replace(CONFIG, answers="title_likelihood", negatives=2)
    every = scored(dataclasses.replace(config, negatives=0))[0]["question"].answers
    for example in scored(config):
        numbers = [int(score) for score in example["retriever"]]
        assert len(numbers) == 3
        assert example["shares"] == [float(number + 1 == label) for number in numbers]
        assert example["question"].answers == [every[number] for number in numbers]
    assert len({tuple(example["retriever"]) for example in scored(config)}) > 3
    assert scored(config) == scored(config)
    assert len(scored(dataclasses.replace(config, negatives=99))[0]["shares"]) == 6


@pytest.fixture
def telling_titles(prompts_folder: Path, tmp_path: Path) -> Path:
    """The prompts with titles of which the history tells the label's."""
    for file in prompts_folder.glob("*.parquet"):
        rows = pq.read_table(file).to_pylist()
        for index, row in enumerate(rows):
            after, other = ("cup", "drum") if index % 2 else ("drum", "cup")
            row["history"] = ["tea" if after == "cup" else "jazz"]
            row["titles"] = [after if n + 1 in row["labels"] else other for n in range(6)]
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), tmp_path / file.name)
    return tmp_path


@pytest.mark.parametrize("answers", SCORING)
def test_it_learns_and_keeps_its_weights(answers, telling_titles: Path, tiny_model_folder) -> None:
    config = dataclasses.replace(CONFIG, answers=answers)
    report = trained(config, telling_titles, tiny_model_folder, telling_titles)
    assert report.last_loss < report.first_loss - 0.05
    ranker = Ranker.read(telling_titles / "model")
    assert ranker.answers == answers
    assert ranker.scale > 0 or answers == "label_logits"
    assert "What model and retriever add" in (telling_titles / "curves.html").read_text()


def test_a_killed_training_ends_with_the_same_model(
    prompts_folder, tiny_model_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    config = dataclasses.replace(CONFIG, answers="title_likelihood", epochs=2, save_steps=3)
    trained(config, prompts_folder, tiny_model_folder, tmp_path / "whole")
    original, calls = Trainer.training_step, []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dies)
    arguments = (config, prompts_folder, tiny_model_folder, tmp_path / "cut", str(tmp_path / "checkpoints"))
    with pytest.raises(KeyboardInterrupt):
        trained(*arguments)
    trained(*arguments)
    for file in ("model.safetensors", "config.json"):
        whole, cut = (tmp_path / name / "model" / file for name in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_without_epochs_only_the_weights_of_the_scores_are_learnt(
    prompts_folder, tiny_model_folder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, answers="title_likelihood", epochs=0)
    report = trained(config, prompts_folder, tiny_model_folder, tmp_path)
    assert report.steps == 0
    before, after = (load(folder, "float32").model for folder in (tiny_model_folder, tmp_path / "model"))
    assert all(map(torch.equal, before.parameters(), after.parameters()))
    assert Ranker.read(tmp_path / "model").answers == "title_likelihood"


def test_no_test_prompt_decides_a_weight(prompts_folder, tiny_model_folder, tmp_path: Path) -> None:
    """The step needs train and validation prompts alone."""
    for split in ("train", "valid"):
        source = prompts_folder / f"{split}.parquet"
        (tmp_path / source.name).write_bytes(source.read_bytes())
    config = dataclasses.replace(CONFIG, answers="label_logits", epochs=0)
    trained(config, tmp_path, tiny_model_folder, tmp_path / "out")
    assert Ranker.read(tmp_path / "out" / "model").answers == "label_logits"


@pytest.fixture
def taught(prompts_folder: Path, tmp_path: Path) -> Path:
    """The prompts with a teacher, half of those for training without their label among the candidates."""
    for file in prompts_folder.glob("*.parquet"):
        rows = pq.read_table(file).to_pylist()
        for index, row in enumerate(rows):
            if file.stem == "train":
                row["teacher"] = [((index + n) * 7 % 6) / 2 for n in range(6)]
                row["labels"] = row["labels"] if index % 2 else []
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), tmp_path / file.name)
    return tmp_path


@pytest.mark.parametrize("negatives", [0, 3])
@pytest.mark.parametrize("answers", SCORING)
def test_a_teachers_gradient_is_that_of_a_plain_computation(
    answers, negatives, taught, tiny_model_folder
) -> None:
    """In float64, candidate by candidate, without packed rows: weights' gradients of the cross-entropy."""
    lm = load(tiny_model_folder, "float32")
    lm.model.double()
    config = dataclasses.replace(CONFIG, answers=answers, negatives=negatives)
    rows, ranker = read_prompts(taught, "train", 4), Ranker(answers, scale=0.5, fuse=2.0)
    assert {bool(row.labels) for row in rows} == {True, False}
    examples = ranking.encode(rows, lm.tokenizer, config)
    assert len(examples) == len(rows)
    ranking.ranking_loss(lm.model, ranking.collate(examples), ranker).backward()
    found = [weight.grad.clone() for weight in lm.model.parameters()]
    lm.model.zero_grad()

    def log_prob(prompt: list[int], answer: list[int]) -> torch.Tensor:
        log_probs = lm.model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        return sum(log_probs[len(prompt) - 1 + t, token] for t, token in enumerate(answer))

    total = torch.tensor(0.0).double()
    for row, example in zip(rows, examples, strict=True):
        asked, order = example["question"], torch.tensor(example["retriever"]).double()
        kept = [row.scores.index(score) for score in example["retriever"]]
        assert len(kept) == (negatives + 1 if negatives else 6)
        assert row.teacher.index(max(row.teacher)) in kept
        wanted = torch.tensor([row.teacher[n] for n in kept]).double().softmax(0)
        alone = [log_prob(asked.alone, answer) if asked.alone else 0.0 for answer in asked.answers]
        scores = torch.stack(
            [log_prob(asked.prompt, a) - b for a, b in zip(asked.answers, alone, strict=True)]
        )
        total = total - (wanted * (0.5 * scores + 2.0 * order).log_softmax(0)).sum()
    (total / len(rows)).backward()
    for weight, gradient in zip(lm.model.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-6)  # its norms are float32


def test_a_teacher_is_learnt_without_any_label(taught: Path, tiny_model_folder, tmp_path: Path) -> None:
    rows = pq.read_table(taught / "train.parquet").to_pylist()
    without = [{**row, "labels": []} for row in rows]
    pq.write_table(pa.Table.from_pylist(without, schema=PROMPTS), taught / "train.parquet")
    config = dataclasses.replace(CONFIG, answers="title_likelihood", epochs=10)
    report = trained(config, taught, tiny_model_folder, tmp_path / "out")
    assert report.examples == len(rows) and report.last_loss < report.first_loss - 0.02
