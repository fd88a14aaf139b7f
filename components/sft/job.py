"""Fine-tune with transformers' Trainer; the output is one whole safetensors folder."""

import math
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from components.sft.config import SftConfig
from components.sft.examples import answer_loss, collate, encode
from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.checkpoints import directory, latest_trainer_checkpoint
from components.shared.artifacts.outputs import atomic_folder
from components.shared.language_model import lora
from components.shared.language_model.checks import check_finite, check_length, explain_oom
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.load import check_folder, context_length, load
from components.shared.logs import logger, progress
from components.shared.metrics import mean
from components.shared.prompting.table import read_prompts
from components.shared.reporting import charts, page
from components.shared.reporting.page import Figures, Text
from components.shared.tracking import tracker as tracking
from components.shared.tracking.tracker import Tracker

log = logger("sft")

_TITLE = "Supervised fine-tuning"
_TRACKED = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class SftReport:
    """Examples, optimiser steps, mean loss of the first and last tenth of them, seconds."""

    examples: int = 0
    steps: int = 0
    first_loss: float = 0.0
    last_loss: float = 0.0
    seconds: float = 0.0


def run(
    config: SftConfig, *, prompts: Path, base_model: Path, model: Path, curves: Path, checkpoints: str = ""
) -> SftReport:
    """Train, write `model` and the page `curves`; resume from the latest of the `checkpoints`.

    `prompts` is the folder of the prompts table; `checkpoints` is a folder, a URI or "" for none.

    Raises: DataError, ModelError, ConfigError; TrainingError if a loss is not finite or memory is used up.
    """
    if not config.epochs:
        return _copy_base_model(base_model, model, curves)
    set_seed(config.seed)
    lm = load(base_model, "float32")
    network, tokenizer = lora.set_trainable(lm.model, config.train_layers, config.lora), lm.tokenizer
    rows = read_prompts(prompts, "train", config.max_examples, config.seed)
    examples = encode(rows, tokenizer, config.max_length)
    lengths = [len(example["input_ids"]) for example in examples]
    check_length(max(lengths), context_length(lm.model), "lower prompts.max_prompt_tokens")
    log.info("%d examples, %.0f tokens on average", len(examples), sum(lengths) / len(lengths))
    with (
        directory(checkpoints, "sft", config, prompts, base_model) as checkpoint_dir,
        tracking.tracker("sft", checkpoint_dir, config) as tracker,
    ):
        trainer = _AnswerTrainer(
            model=network,
            args=_arguments(config, len(examples), checkpoint_dir),
            train_dataset=examples,
            data_collator=partial(collate, pad_token_id=tokenizer.pad_token_id),
            callbacks=[_Progress(tracker)],
        )
        started = time.monotonic()
        with explain_oom("lower sft.micro_batch_size or sft.max_length, or set sft.gradient_checkpointing"):
            trainer.train(resume_from_checkpoint=latest_trainer_checkpoint(checkpoint_dir))
        seconds = time.monotonic() - started
        # No loss is computed after the last update, which may have broken the weights.
        check_finite("after the last step", "sft", config.learning_rate, network=network)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        with atomic_folder(model) as folder:
            lora.merge_adapters(network).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        page.write(curves, _TITLE, [Figures(charts.curves({"loss (nats per token)": losses}))])
    tenth = max(1, len(losses) // 10)
    return SftReport(
        examples=len(examples),
        steps=trainer.state.global_step,
        first_loss=mean(losses[:tenth]),
        last_loss=mean(losses[-tenth:]),
        seconds=seconds,
    )


def _copy_base_model(base_model: Path, model: Path, curves: Path) -> SftReport:
    log.info("no epochs: the base model is returned unchanged")
    check_folder(base_model)
    with atomic_folder(model) as folder:
        shutil.copytree(base_model, folder, dirs_exist_ok=True)
    page.write(curves, _TITLE, [Text("No epochs: the base model is returned unchanged.")])
    return SftReport()


def _arguments(config: SftConfig, examples: int, checkpoint_dir: Path) -> TrainingArguments:
    steps = config.epochs * math.ceil(examples / config.batch_size)
    return TrainingArguments(
        output_dir=str(checkpoint_dir),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.batch_size // config.micro_batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        bf16=torch_dtype(config.dtype) == torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        train_sampling_strategy="group_by_length",
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps,
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

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        checkpoint_store.push(Path(str(self.args.output_dir)))


class _Progress(TrainerCallback):
    """Logs the training about twenty times, to MLflow every step; stops at NaN loss."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        check_finite(f"at step {state.global_step}", "sft", args.learning_rate, logs["loss"])
        self.tracker.log(state.global_step, {name: logs[name] for name in _TRACKED if name in logs})
        every = max(1, state.max_steps // 20)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            progress(log, state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")
