"""Fine-tuning with transformers' Trainer, in one process or as one of several that share each batch.

Every process is a Trainer of its own that draws the whole batch and computes its share; gradients are summed
before the update, so that weights, checkpoints and figures are those of one process.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from components.sft import distributed, ranking, sharding
from components.sft.adaptation import FOLDER, Histories
from components.sft.config import SftConfig
from components.sft.examples import answer_loss, collate, encode, share
from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.outputs import atomic_folder
from components.shared.language_model import lora
from components.shared.language_model.checks import check_finite, check_length, explain_oom
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.load import LanguageModel, context_length, load
from components.shared.language_model.ranker import Ranker
from components.shared.logs import logger, progress
from components.shared.prompting.table import read_prompts
from components.shared.tracking.tracker import Tracker

log = logger("sft")

_REMEDY = "lower sft.micro_batch_size or {}, or set sft.gradient_checkpointing"
_TRACKED = ("loss", "grad_norm", "learning_rate")


@dataclass(frozen=True)
class Training:
    """What a training did: examples, the loss of each step, seconds; a scoring model's weights.

    `adaptation` is the loss of each step of the adaptation.
    """

    examples: int
    losses: list[float]
    seconds: float
    fusion: ranking.Fusion | None
    adaptation: list[float]


def train(
    tracker: Tracker,
    *,
    config: SftConfig,
    prompts: Path,
    base_model: Path,
    model: Path,
    checkpoint_dir: Path,
    checkpoint: str | None,
    histories: Histories | None = None,
    adapted: str | None = None,
) -> Training:
    """Train the base model from `checkpoint`, if any, and write `model`, one whole safetensors folder.

    `adapted` is the newest checkpoint of the adaptation to `histories`.

    Raises: DataError, ModelError, ConfigError; TrainingError if a loss is not finite or memory is used up.
    """
    set_seed(config.seed)
    lm = load(base_model, "float32")
    use_cache = getattr(lm.model.config, "use_cache", None)
    network, tokenizer = lora.set_trainable(lm.model, config.train_layers, config.lora), lm.tokenizer
    adaptation: list[float] = []
    if histories and config.adaptation.tokens:
        adaptation = _adapt(network, tokenizer, config, histories, checkpoint_dir, adapted, tracker)
    rows = read_prompts(prompts, "train", config.max_examples, config.seed)
    if config.answers == "generate":
        ranker, examples = Ranker(), encode(rows, tokenizer, config.max_length)
    else:
        examples = ranking.encode(rows, tokenizer, config)
        before = ranking.fit(lm, rows, config, least=ranking.LEAST)
        log.info("before training, %s", before)
        ranker = before.ranker
    lengths = [len(example["input_ids"]) for example in examples]
    check_length(max(lengths), context_length(lm.model.config), "lower prompts.max_prompt_tokens")
    log.info("%d examples, %.0f tokens on average", len(examples), sum(lengths) / len(lengths))
    trainer = _AnswerTrainer(
        ranker=ranker,
        sharded=config.fsdp and distributed.size() > 1,
        checkpoint_dir=checkpoint_dir,
        model=network,
        args=_arguments(config, len(examples), checkpoint_dir),
        train_dataset=examples,
        data_collator=_Collator(tokenizer.pad_token_id, distributed.rank(), distributed.size()),
        callbacks=[_Progress(tracker)],
    )
    started = time.monotonic()
    with explain_oom(_REMEDY.format("sft.max_length")):
        if config.epochs:
            trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - started
    if trainer.sharded:
        state = network.state_dict()
        if distributed.rank() == 0:
            whole = load(base_model, "float32", "cpu").model
            network = lora.set_trainable(whole, config.train_layers, config.lora)
            network.load_state_dict(state)
    fusion = None
    if distributed.rank() == 0:
        # No loss is computed after the last update, which may have broken the weights.
        check_finite("after the last step", "sft", config.learning_rate, network=network)
        plain = LanguageModel(lora.merge_adapters(network), tokenizer)
        if use_cache is not None:  # the Trainer turns it off, and whoever serves the model reads it
            plain.model.config.use_cache = use_cache
        if config.answers != "generate":
            fusion = ranking.fit(plain, read_prompts(prompts, "valid"), config)
            log.info("after training, %s", fusion)
            if not fusion.prompts:
                log.warning(
                    "no validation prompt has its label among the candidates: the model keeps the "
                    "retriever's order; raise prompts.valid_prompts or retrieve.num_candidates"
                )
            fusion.ranker.write(plain.model)
        with atomic_folder(model) as folder:
            plain.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return Training(len(examples), _losses(trainer), seconds, fusion, adaptation)


def _adapt(
    network: Any,
    tokenizer: Any,
    config: SftConfig,
    histories: Histories,
    checkpoint_dir: Path,
    checkpoint: str | None,
    tracker: Tracker,
) -> list[float]:
    """Train `network` on the titles of `histories` from `checkpoint`; return the loss of each step."""
    rows = histories.rows(tokenizer, config.adaptation, config.seed)
    log.info("adaptation: %d rows of %d tokens of titles", len(rows), config.adaptation.row_tokens)
    settings = replace(config, epochs=1, learning_rate=config.adaptation.learning_rate)
    trainer = _AnswerTrainer(
        ranker=Ranker(),
        sharded=False,
        checkpoint_dir=checkpoint_dir,
        model=network,
        args=_arguments(settings, len(rows), checkpoint_dir / FOLDER),
        train_dataset=rows,
        data_collator=_Collator(tokenizer.pad_token_id, distributed.rank(), distributed.size()),
        callbacks=[_Progress(tracker, "sft.adaptation", "adaptation_")],
    )
    with explain_oom(_REMEDY.format("sft.adaptation.row_tokens")):
        trainer.train(resume_from_checkpoint=checkpoint)
    # What the Trainer wraps it in must not be wrapped again.
    trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    return _losses(trainer)


def _losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _arguments(config: SftConfig, examples: int, checkpoint_dir: Path) -> TrainingArguments:
    steps = config.epochs * math.ceil(examples / config.batch_size)
    return TrainingArguments(
        output_dir=str(checkpoint_dir),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size * distributed.size(),
        gradient_accumulation_steps=config.micro_batches(distributed.size()),
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


@dataclass(frozen=True)
class _Collator:
    """Collates this process's share of the examples that all of them draw."""

    pad_token_id: int
    rank: int
    size: int

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        own = share(examples, self.rank, self.size)
        return ranking.collate(own) if "question" in own[0] else collate(own, self.pad_token_id)


class _AnswerTrainer(Trainer):
    model_accepts_loss_kwargs = True  # the loss below divides by the optimiser step's own token count

    def __init__(self, *, ranker: Ranker, sharded: bool, checkpoint_dir: Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ranker, self.sharded, self.checkpoint_dir = ranker, sharded, checkpoint_dir

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.ranker.answers != "generate":
            return ranking.ranking_loss(model, inputs, self.ranker, num_items_in_batch)
        return answer_loss(model, inputs, num_items_in_batch)

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        samples, tokens = super().get_batch_samples(*arguments, **named)
        assert isinstance(tokens, torch.Tensor)  # of `labels`, which every batch has
        return samples, distributed.sum_(tokens)

    def training_step(self, model: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        loss = super().training_step(model, *arguments, **named)
        # Set at the last forward pass before an update. Shards sum their gradients themselves.
        if self.accelerator.sync_gradients and distributed.size() > 1 and not self.sharded:
            distributed.sum_gradients(model)
        return distributed.sum_(loss)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if not self.sharded:
            return super().create_optimizer(model)
        # A checkpoint's whole weights are loaded by now, the optimiser's state is not.
        sharding.shard(self.model, torch_dtype("bfloat16" if self.args.bf16 else "float32"))
        optimizer = super().create_optimizer(model)
        sharding.shard_optimizer(optimizer)
        return optimizer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if distributed.rank() == 0:
            super()._save_checkpoint(model, trial)
            checkpoint_store.push(self.checkpoint_dir)
        elif self.sharded and self.model and self.optimizer:  # rank 0 gathers the shards, in this order
            self.model.state_dict()
            self.optimizer.state_dict()


class _Progress(TrainerCallback):
    """Logs the training about twenty times, to MLflow every step; stops at NaN loss."""

    def __init__(self, tracker: Tracker, section: str = "sft", prefix: str = "") -> None:
        self.tracker, self.section, self.prefix = tracker, section, prefix

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        check_finite(f"at step {state.global_step}", self.section, args.learning_rate, logs["loss"])
        figures = {f"{self.prefix}{name}": logs[name] for name in _TRACKED if name in logs}
        self.tracker.log(state.global_step, figures)
        every = max(1, state.max_steps // 20)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            progress(log, state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")
