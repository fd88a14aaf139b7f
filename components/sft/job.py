"""Fine-tune with transformers' Trainer; the output is one whole safetensors folder."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from components.sft.config import SftConfig
from components.sft.examples import LeftPadding, answer_loss, encode
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.errors import ConfigError, TrainingError
from components.shared.language_model import lora
from components.shared.language_model.dtype import are_finite, torch_dtype
from components.shared.language_model.load import check_folder, context_length, load
from components.shared.language_model.memory import explain_oom
from components.shared.prompting.table import read_prompts
from components.shared.reporting import curves
from components.shared.tracking import tracker as tracking
from components.shared.tracking.tracker import Tracker

_TRACKED = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class SftInputs:
    """Folders of the prompts table and the base model; where checkpoints may lie ("" = nowhere)."""

    prompts: Path
    base_model: Path
    checkpoints: str = ""


@dataclass(frozen=True)
class SftOutputs:
    """Folder of the trained model, page of its curves, file of its figures."""

    model: Path
    curves: Path
    metrics: Path


@dataclass(frozen=True)
class SftReport:
    """What training did: examples, optimiser steps, mean loss of the first and last tenth, seconds."""

    examples: int
    steps: int
    first_loss: float
    last_loss: float
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Return the figures that the Kubeflow UI shows."""
        return asdict(self)


def run(config: SftConfig, inputs: SftInputs, outputs: SftOutputs) -> SftReport:
    """Train and write the model; resumes from the latest checkpoint of the same data and configuration.

    Raises:
        DataError: no usable training prompt. ModelError: no usable base model.
        ConfigError: an example exceeds the model's context.
        TrainingError: the loss or a weight is not finite, or the memory is used up.
    """
    set_seed(config.seed)
    if not config.epochs:
        return _handed_on(inputs, outputs)
    lm = load(inputs.base_model, "float32")
    model, tokenizer = lora.set_trainable(lm.model, config.train_layers, config.lora), lm.tokenizer
    rows = read_prompts(inputs.prompts, "train", config.max_examples, config.seed)
    examples = encode(rows, tokenizer, config.max_length)
    _check_fits(examples, context_length(lm.model))
    tokens = sum(len(example["input_ids"]) for example in examples)
    print(f"sft: {len(examples)} examples, {tokens / len(examples):.0f} tokens each", flush=True)
    with (
        checkpoints.directory(inputs.checkpoints, "sft", config, inputs.prompts, inputs.base_model) as place,
        tracking.tracker("sft", place, config) as tracker,
    ):
        progress = _Progress(tracker)
        trainer = _AnswerTrainer(
            model=model,
            args=_arguments(config, len(examples), place),
            train_dataset=examples,
            data_collator=LeftPadding(tokenizer.pad_token_id),
            callbacks=[progress],
        )
        started = time.monotonic()
        with explain_oom("lower sft.micro_batch_size or sft.max_length, or set sft.gradient_checkpointing"):
            trainer.train(resume_from_checkpoint=checkpoints.latest_trainer_checkpoint(place))
        seconds = time.monotonic() - started
        _check_weights(model, config)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        with atomic_folder(outputs.model) as folder:
            lora.merge_adapters(model).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        curves.write(outputs.curves, "Supervised fine-tuning", {"loss (nats a token)": losses})
        tenth = max(1, len(losses) // 10)
        report = SftReport(
            examples=len(examples),
            steps=trainer.state.global_step,
            first_loss=sum(losses[:tenth]) / tenth,
            last_loss=sum(losses[-tenth:]) / tenth,
            seconds=seconds,
        )
        write_json(outputs.metrics, report.metrics())
    return report


def _check_fits(examples: Sequence[Mapping[str, Sequence[int]]], context: int | None) -> None:
    """Raise ConfigError if an example is longer than the model's `context` in tokens."""
    longest = max(len(example["input_ids"]) for example in examples)
    if context is not None and longest > context:
        raise ConfigError(
            f"sft: the longest prompt with its answer has {longest} tokens, more than the model's context of "
            f"{context}; lower prompts.max_prompt_tokens"
        )


def _check_weights(model: Any, config: SftConfig) -> None:
    """Raise TrainingError if the last update, after which no loss is computed, broke the weights."""
    if not are_finite(model):
        raise TrainingError(
            "sft: weights are not finite after the last step; lower sft.learning_rate "
            f"({config.learning_rate:g})"
        )


def _handed_on(inputs: SftInputs, outputs: SftOutputs) -> SftReport:
    """Write the base model as it is."""
    check_folder(inputs.base_model)
    with atomic_folder(outputs.model) as folder:
        shutil.copytree(inputs.base_model, folder, dirs_exist_ok=True)
    curves.write(outputs.curves, "Supervised fine-tuning", {}, "<p>None: the base model goes on.</p>")
    report = SftReport(examples=0, steps=0, first_loss=0.0, last_loss=0.0, seconds=0.0)
    write_json(outputs.metrics, report.metrics())
    print("sft: no epochs: the base model goes on", flush=True)
    return report


def _arguments(config: SftConfig, examples: int, place: Path) -> TrainingArguments:
    steps = config.epochs * math.ceil(examples / config.batch_size)
    return TrainingArguments(
        output_dir=str(place),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.batch_size // config.micro_batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        max_grad_norm=1.0,
        bf16=torch_dtype(config.dtype) == torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        train_sampling_strategy="group_by_length",
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen, not smoothed over
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=config.seed,
        data_seed=config.seed,
    )


class _AnswerTrainer(Trainer):
    model_accepts_loss_kwargs = True  # the loss below divides by the optimiser step's own token count

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return answer_loss(model, inputs, num_items_in_batch)


class _Progress(TrainerCallback):
    """Tells of the training, twenty lines to people and every step to MLflow; stops it at a loss of NaN."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.started = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"sft: the loss is {logs['loss']} at step {state.global_step}; lower sft.learning_rate "
                f"({args.learning_rate:g}) or set sft.dtype to float32"
            )
        self.tracker.log(state.global_step, {name: logs[name] for name in _TRACKED if name in logs})
        every = max(1, state.max_steps // 20)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            spent = time.monotonic() - self.started
            print(
                f"sft: step {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}, {spent:.0f} s",
                flush=True,
            )
