"""Adaptation to the log before SFT: whose titles it reads, that it learns, resumes and is refused."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from components.sft.adaptation import Histories
from components.sft.config import AdaptationConfig, SftConfig
from components.sft.examples import IGNORED, answer_loss, collate
from components.sft.job import run
from components.shared.language_model.load import load
from components.shared.language_model.scoring import HEADER
from components.shared.prompting.settings import PromptSettings
from data_contracts.tables import CATALOGUE, SEQUENCES

WORDS = ("tea", "chess", "jazz", "hiking", "cup", "drum")
ADAPTATION = AdaptationConfig(tokens=1500, row_tokens=64, learning_rate=5.0e-3)
CONFIG = SftConfig(
    batch_size=4, micro_batch_size=2, learning_rate=5.0e-3, dtype="float32", adaptation=ADAPTATION
)


@pytest.fixture
def histories(tmp_path: Path) -> Histories:
    """Users who go round a ring of six titles; what they do in validation and test stands nowhere else."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    users = [
        {
            "user_id": f"u{user:02d}",
            "item_ids": [*(f"i{(user + n) % 6}" for n in range(6)), "valid", "test"],
            "timestamps": [now] * 8,
            "engagement": [1.0] * 8,
            "train_end": 6,
            "valid_end": 7,
            "events": [],
        }
        for user in range(60)
    ]
    titles = {**{f"i{n}": word for n, word in enumerate(WORDS)}, "valid": "SECRET-V", "test": "SECRET-T"}
    items = [
        {"item_id": name, "title": title, "topic": "", "tags": [], "train_count": 0}
        for name, title in titles.items()
    ]
    for name, rows, schema in (("sequences", users, SEQUENCES), ("catalogue", items, CATALOGUE)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / name / "part-0.parquet")
    return Histories(tmp_path / "sequences", tmp_path / "catalogue", PromptSettings())


def test_rows_are_train_titles_alone(histories: Histories, tiny_model_folder: Path) -> None:
    tokenizer = load(tiny_model_folder).tokenizer
    rows = histories.rows(tokenizer, AdaptationConfig(tokens=10**6, row_tokens=50), seed=0)
    assert {len(row["input_ids"]) for row in rows[:-1]} == {50}
    text = tokenizer.decode([token for row in rows for token in row["input_ids"]])
    told = text.split(HEADER)[1:]
    assert sorted(told) == sorted("".join(f"{WORDS[(u + n) % 6]}\n" for n in range(6)) for u in range(60))
    assert "SECRET" not in text
    pairs = [pair for row in rows for pair in zip(row["input_ids"], row["labels"], strict=True)]
    assert all(label in (token, IGNORED) for token, label in pairs)
    ignored = [label for _, label in pairs].count(IGNORED)
    header = len(tokenizer(HEADER, add_special_tokens=False)["input_ids"])
    assert 60 * header <= ignored <= 60 * header + len(rows)
    few = histories.rows(tokenizer, ADAPTATION, seed=0)
    assert sum(len(row["input_ids"]) for row in few) == 1500
    assert few == histories.rows(tokenizer, ADAPTATION, seed=0)
    assert few != histories.rows(tokenizer, ADAPTATION, seed=1)


def test_rows_that_teach_nothing_are_left_out(histories: Histories, tiny_model_folder: Path) -> None:
    tokenizer = load(tiny_model_folder).tokenizer
    header = len(tokenizer(HEADER, add_special_tokens=False)["input_ids"])
    one_more = AdaptationConfig(tokens=129, row_tokens=64)
    assert [len(row["input_ids"]) for row in histories.rows(tokenizer, one_more, seed=0)] == [64, 64]
    for row in histories.rows(tokenizer, AdaptationConfig(tokens=500, row_tokens=header), seed=0):
        assert any(label != IGNORED for label in row["labels"])


def test_labels_of_validation_and_test_change_no_row(histories: Histories, tiny_model_folder: Path) -> None:
    tokenizer, file = load(tiny_model_folder).tokenizer, histories.sequences / "part-0.parquet"
    before = histories.rows(tokenizer, ADAPTATION, seed=0)
    rows = pq.read_table(file).to_pylist()
    changed = [{**row, "item_ids": [*row["item_ids"][:6], "test", "i0"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(changed, schema=SEQUENCES), file)
    assert histories.rows(tokenizer, ADAPTATION, seed=0) == before


def adapted(
    config: SftConfig, histories: Histories, folders: tuple[Path, Path], out: Path, checkpoints: str = ""
):
    """Return the model after adaptation, without training on answers unless `config` says so."""
    prompts, base_model = folders
    written = {"model": out / "model", "curves": out / "curves.html"}
    inputs = {
        "prompts": prompts,
        "base_model": base_model,
        "histories": histories,
        "checkpoints": checkpoints,
    }
    run(config, **inputs, **written)
    return load(out / "model", "float32")


def test_users_held_out_are_likelier_after_it(
    histories: Histories, prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    before = load(tiny_model_folder, "float32")
    config = dataclasses.replace(CONFIG, epochs=0)
    after = adapted(config, histories, (prompts_folder, tiny_model_folder), tmp_path / "out")
    every = histories.rows(before.tokenizer, dataclasses.replace(ADAPTATION, tokens=10**6), config.seed)
    held_out = every[-(-ADAPTATION.tokens // ADAPTATION.row_tokens) :]
    assert len(held_out) >= 5
    batch = collate(held_out, before.tokenizer.pad_token_id)
    with torch.inference_mode():
        losses = [answer_loss(lm.model, batch).item() for lm in (before, after)]
    assert losses[1] < losses[0] - 0.5
    assert "loss of the adaptation" in (tmp_path / "out" / "curves.html").read_text()


@pytest.mark.parametrize("dies_at", [4, 9], ids=["in the adaptation", "in SFT"])
def test_a_killed_step_ends_with_the_same_model(
    dies_at, histories, prompts_folder, tiny_model_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps of adaptation, then four of SFT by title likelihood, with a checkpoint every other step."""
    from transformers import Trainer

    config = dataclasses.replace(CONFIG, answers="title_likelihood", save_steps=2)
    folders = (prompts_folder, tiny_model_folder)
    adapted(config, histories, folders, tmp_path / "whole")
    original, calls = Trainer.training_step, []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2 * dies_at:  # two forward passes a step
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dies)
    kept = str(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        adapted(config, histories, folders, tmp_path / "cut", kept)
    adapted(config, histories, folders, tmp_path / "cut", kept)
    assert len(calls) < 2 * (10 + dies_at), "it did not begin anew"
    whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    configs = [(tmp_path / name / "model" / "config.json").read_bytes() for name in ("whole", "cut")]
    assert configs[0] == configs[1]
    plain = load_file(tiny_model_folder / "model.safetensors")
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)


def test_shards_are_refused() -> None:
    with pytest.raises(ValueError, match=r"adaptation: not with fsdp"):
        dataclasses.replace(CONFIG, fsdp=True)
