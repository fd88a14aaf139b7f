"""Supervised fine-tuning end to end on a tiny model: learns, repeats, resumes, refuses."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from components.sft.config import SftConfig
from components.sft.examples import IGNORED, answer_loss, collate, encode
from components.sft.job import run
from components.shared.artifacts.fingerprint import of_folder
from components.shared.errors import ConfigError, DataError, ModelError, TrainingError
from components.shared.language_model.load import encode_prompt, load
from components.shared.language_model.lora import LoraConfig
from components.shared.prompting.table import read_prompts

CONFIG = SftConfig(epochs=3, batch_size=4, micro_batch_size=2, learning_rate=5.0e-3, dtype="float32")


def inputs(prompts: Path, base_model: Path, checkpoints: str = "") -> dict[str, Any]:
    return {"prompts": prompts, "base_model": base_model, "checkpoints": checkpoints}


def outputs(folder: Path) -> dict[str, Any]:
    return {"model": folder / "model", "curves": folder / "curves.html"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_only_the_answer_is_learnt(prompts_folder: Path, tiny_model_folder: Path) -> None:
    tokenizer = load(tiny_model_folder).tokenizer
    row = read_prompts(prompts_folder, "train", 1)[0]
    (example,) = encode([row], tokenizer, 1000)
    prompt = encode_prompt(tokenizer, row.messages)
    assert example["input_ids"][: len(prompt)] == prompt
    assert set(example["labels"][: len(prompt)]) == {IGNORED}
    answer = example["labels"][len(prompt) :]
    assert tokenizer.decode(answer[:-1]) == row.completion
    assert answer[-1] == tokenizer.eos_token_id


def test_the_loss_equals_that_of_unpadded_examples(prompts_folder: Path, tiny_model_folder: Path) -> None:
    lm = load(tiny_model_folder, "float32")
    examples = encode(read_prompts(prompts_folder, "train", 3), lm.tokenizer, 1000)
    examples[1] = {name: ids[-60:] for name, ids in examples[1].items()}  # a shorter one: padding matters
    batch = collate(examples, lm.tokenizer.pad_token_id)
    total, count = 0.0, 0
    for example in examples:
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
        log_probs = lm.model(ids).logits[0].log_softmax(-1)
        for t in (labels != IGNORED).nonzero().flatten().tolist():
            total, count = total - log_probs[t - 1, labels[t]].item(), count + 1
    with torch.inference_mode():
        assert answer_loss(lm.model, batch).item() == pytest.approx(total / count, abs=1e-4)
        assert answer_loss(lm.model, batch, num_items=10).item() == pytest.approx(total / 10, abs=1e-3)


def test_training_learns_and_repeats_itself(
    prompts_folder, tiny_model_folder, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(prompts_folder, tiny_model_folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    report = run(CONFIG, **given, **outputs(tmp_path / "a"))
    client = MlflowClient(tracking_uri)
    (found,) = client.search_runs([client.get_experiment_by_name("recllm-r1").experiment_id])
    assert len(client.get_metric_history(found.info.run_id, "loss")) == 12
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert report.steps == 12
    assert report.last_loss < report.first_loss - 1
    run(CONFIG, **given, **outputs(tmp_path / "b"))
    first, second = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "<svg" in (tmp_path / "a" / "curves.html").read_text()


def test_without_epochs_the_base_model_is_returned(prompts_folder, tiny_model_folder, tmp_path: Path) -> None:
    report = run(SftConfig(epochs=0), **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    assert (report.steps, report.examples) == (0, 0)
    assert of_folder(tmp_path / "model") == of_folder(tiny_model_folder)
    assert "<p>No epochs: the base model is returned unchanged.</p>" in (tmp_path / "curves.html").read_text()


def test_adapters_learn_and_the_model_handed_on_is_plain(
    prompts_folder, tiny_model_folder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, lora=LoraConfig(rank=8), learning_rate=2.0e-2)
    report = run(config, **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    assert report.last_loss < report.first_loss - 0.1
    before, after = load_file(tiny_model_folder / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith("proj.weight") for name in changed)
    settings = [json.loads((f / "config.json").read_text()) for f in (tiny_model_folder, tmp_path / "model")]
    assert settings[0]["use_cache"] is settings[1]["use_cache"] is True


@pytest.mark.parametrize(
    ("lora", "dies", "saved"),
    [
        pytest.param(LoraConfig(), 6, 3, id="weights"),
        pytest.param(LoraConfig(rank=4), 6, 3, id="adapters"),
        pytest.param(LoraConfig(), 8, 6, id="amid the second epoch"),
    ],
)
def test_a_killed_training_goes_on_from_its_checkpoint(
    lora: LoraConfig,
    dies: int,
    saved: int,
    prompts_folder,
    tiny_model_folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import Trainer

    config = SftConfig(
        epochs=2,
        batch_size=4,
        micro_batch_size=4,
        learning_rate=5.0e-3,
        dtype="float32",
        save_steps=3,
        lora=lora,
    )
    run(config, **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path / "whole"))
    resuming = inputs(prompts_folder, tiny_model_folder, str(tmp_path / "checkpoints"))
    original, calls = Trainer.training_step, []

    def dies_in_step(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == dies:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", dies_in_step)
    with pytest.raises(KeyboardInterrupt):
        run(config, **resuming, **outputs(tmp_path / "cut"))
    assert not (tmp_path / "cut" / "model").exists()
    (checkpoint_dir,) = (tmp_path / "checkpoints").iterdir()
    shutil.copytree(checkpoint_dir / f"checkpoint-{saved}", checkpoint_dir / f"checkpoint-{saved + 1}")
    # What a kill while saving leaves.
    (checkpoint_dir / f"checkpoint-{saved + 1}" / "trainer_state.json").unlink()
    run(config, **resuming, **outputs(tmp_path / "cut"))
    assert len(calls) == dies + 8 - saved, "the steps after the checkpoint's were run after the resume"
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not list((tmp_path / "checkpoints").iterdir()), "a finished training leaves no checkpoint"


def test_a_model_whose_own_loss_takes_no_token_count_is_trained(
    prompts_folder, tiny_model_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Gemma 4's: the Trainer then counts no tokens by itself."""
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    report = run(CONFIG, **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    assert report.last_loss < report.first_loss


def test_refusals(prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sft\.max_length=50; raise it"):
        run(SftConfig(max_length=50), **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    with pytest.raises(DataError, match=r"train\.parquet: no such file"):
        run(CONFIG, **inputs(tmp_path, tiny_model_folder), **outputs(tmp_path))
    with pytest.raises(ModelError, match=r"no config\.json"):
        run(CONFIG, **inputs(prompts_folder, tmp_path), **outputs(tmp_path))
    wild = dataclasses.replace(CONFIG, learning_rate=1.0e38, weight_decay=1.0e10)
    with pytest.raises(TrainingError, match=r"lower sft\.learning_rate"):
        run(wild, **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    assert not (tmp_path / "model").exists()


def test_an_example_longer_than_the_context_is_told(
    prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model_folder, tmp_path / "small")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    with pytest.raises(ConfigError, match=r"more than the model's context of 40"):
        run(CONFIG, **inputs(prompts_folder, model), **outputs(tmp_path))


def test_weights_that_the_last_step_broke_are_not_handed_on(
    prompts_folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    one_step = SftConfig(batch_size=64, micro_batch_size=64, learning_rate=1.0e38, warmup_ratio=0.0)
    with pytest.raises(TrainingError, match=r"weight is not finite after the last step; lower sft"):
        run(one_step, **inputs(prompts_folder, tiny_model_folder), **outputs(tmp_path))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("warmup_ratio", 5.0), ("weight_decay", -1.0)])
def test_sizes_that_cannot_train_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        SftConfig(**{name: value})
