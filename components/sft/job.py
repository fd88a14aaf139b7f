"""Fine-tune with transformers' Trainer; the output is one whole safetensors folder."""

import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from components.sft.config import SftConfig
from components.sft.examples import LeftPadding, answer_loss, encode
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.language_model import lora
from components.shared.language_model.checks import check_finite, check_length, explain_oom
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.load import check_folder, context_length, load
from components.shared.logs import logger, progress
from components.shared.prompting.table import read_prompts
from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Figures, Text
from components.shared.tracking import tracker as tracking
from components.shared.tracking.tracker import Tracker

log = logger("sft")

_TRACKED = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class SftInputs:
    """Folders of the prompts table, of the base model and for checkpoints ("" = no checkpoints)."""

    prompts: Path
    base_model: Path
    checkpoints: str = ""


@dataclass(frozen=True)
class SftOutputs:
    """Folder of the trained model, page of its curves, file of its metrics."""

    model: Path
    curves: Path
    metrics: Path


@dataclass(frozen=True)
class SftReport:
    """Examples, optimiser steps, mean loss of the first and last tenth of them, seconds."""

    examples: int
    steps: int
    first_loss: float
    last_loss: float
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Return the metrics that the Kubeflow UI shows."""
        return asdict(self)


def run(config: SftConfig, inputs: SftInputs, outputs: SftOutputs) -> SftReport:
    """Train, write the model and return the report; resumes from the latest checkpoint of the same training.

    Raises:
        DataError: no usable training prompt. ModelError: no usable base model.
        ConfigError: an example exceeds the model's context.
        TrainingError: the loss or a weight is not finite, or memory is used up.
    """
    if not config.epochs:
        return _copy_base_model(inputs, outputs)
    set_seed(config.seed)
    lm = load(inputs.base_model, "float32")
    model, tokenizer = lora.set_trainable(lm.model, config.train_layers, config.lora), lm.tokenizer
    rows = read_prompts(inputs.prompts, "train", config.max_examples, config.seed)
    examples = encode(rows, tokenizer, config.max_length)
    lengths = [len(example["input_ids"]) for example in examples]
    check_length(max(lengths), context_length(lm.model), "lower prompts.max_prompt_tokens")
    log.info("%d examples, %.0f tokens on average", len(examples), sum(lengths) / len(lengths))
    folders = (inputs.prompts, inputs.base_model)
    with (
        checkpoints.directory(inputs.checkpoints, "sft", config, *folders) as checkpoint_dir,
        tracking.tracker("sft", checkpoint_dir, config) as tracker,
    ):
        trainer = _AnswerTrainer(
            model=model,
            args=_arguments(config, len(examples), checkpoint_dir),
            train_dataset=examples,
            data_collator=LeftPadding(tokenizer.pad_token_id),
            callbacks=[_Progress(tracker)],
        )
        started = time.monotonic()
        with explain_oom("lower sft.micro_batch_size or sft.max_length, or set sft.gradient_checkpointing"):
            trainer.train(resume_from_checkpoint=checkpoints.latest_trainer_checkpoint(checkpoint_dir))
        seconds = time.monotonic() - started
        # No loss is computed after the last update, which may have broken the weights.
        check_finite("after the last step", "sft", config.learning_rate, network=model)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        with atomic_folder(outputs.model) as folder:
            lora.merge_adapters(model).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        tenth = max(1, len(losses) // 10)
        report = SftReport(
            examples=len(examples),
            steps=trainer.state.global_step,
            first_loss=sum(losses[:tenth]) / tenth,
            last_loss=sum(losses[-tenth:]) / tenth,
            seconds=seconds,
        )
        _write(report, outputs, Figures(charts.curves({"loss (nats per token)": losses})))
    return report


def _copy_base_model(inputs: SftInputs, outputs: SftOutputs) -> SftReport:
    log.info("no epochs: the base model is returned unchanged")
    check_folder(inputs.base_model)
    with atomic_folder(outputs.model) as folder:
        shutil.copytree(inputs.base_model, folder, dirs_exist_ok=True)
    report = SftReport(examples=0, steps=0, first_loss=0.0, last_loss=0.0, seconds=0.0)
    _write(report, outputs, Text("No epochs: the base model is returned unchanged."))
    return report


def _write(report: SftReport, outputs: SftOutputs, block: Block) -> None:
    page.write(outputs.curves, "Supervised fine-tuning", [block])
    write_json(outputs.metrics, report.metrics())


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
    """Logs the training, about twenty times and every step to MLflow; stops it at a loss of NaN."""

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
