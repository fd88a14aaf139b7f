"""The Trainer of answers, in one process or as one of several that share each batch.

Every process is a Trainer of its own that draws the whole batch and computes its share; gradients are summed
before the update, so that weights, checkpoints and figures are those of one process.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from components.sft import distributed, ranking, sharding
from components.sft.config import SftConfig
from components.sft.examples import answer_loss, collate, share
from components.shared.artifacts import checkpoint_store
from components.shared.language_model.checks import check_finite
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.ranker import Ranker
from components.shared.logs import logger, progress
from components.shared.tracking.tracker import Tracker

log = logger("sft")

_TRACKED = ("loss", "grad_norm", "learning_rate")


class AnswerTrainer(Trainer):
    """Trains on answers, or on the order of candidates where `ranker` scores them."""

    def __init__(
        self,
        config: SftConfig,
        network: Any,
        tokenizer: Any,
        examples: Sequence[dict[str, Any]],
        ranker: Ranker,
        tracker: Tracker,
        checkpoint_dir: Path,
        folder: str = "",
        section: str = "sft",
    ) -> None:
        """Checkpoints lie in `folder` of `checkpoint_dir`; the profile's `section` has the learning rate."""
        super().__init__(
            model=network,
            args=_arguments(config, len(examples), checkpoint_dir / folder),
            train_dataset=examples,
            data_collator=_Collator(tokenizer.pad_token_id, distributed.rank(), distributed.size()),
            callbacks=[_Progress(tracker, section)],
        )
        # Whatever the model's own loss takes, the one below divides by the optimiser step's token count.
        self.model_accepts_loss_kwargs = True
        self.ranker, self.checkpoint_dir = ranker, checkpoint_dir
        self.sharded = config.fsdp and distributed.size() > 1

    @property
    def losses(self) -> list[float]:
        """The loss of each step so far."""
        return [entry["loss"] for entry in self.state.log_history if "loss" in entry]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of the order of candidates, or of the tokens of answers."""
        if self.ranker.answers != "generate":
            return ranking.ranking_loss(model, inputs, self.ranker, num_items_in_batch)
        return answer_loss(model, inputs, num_items_in_batch)

    def _get_train_sampler(self, train_dataset: Any = None) -> "_ByLength":
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return _ByLength(batch, train_dataset or self.train_dataset, self.args.seed)

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """Return the batches of an update, and the tokens of all processes in them."""
        samples, tokens = super().get_batch_samples(*arguments, **named)
        assert isinstance(tokens, torch.Tensor)  # of `labels`, which every batch has
        return samples, distributed.sum_(tokens)

    def training_step(self, model: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        """Return the loss of all processes; before an update, their gradients are summed."""
        loss = super().training_step(model, *arguments, **named)
        # Set at the last forward pass before an update. Shards sum their gradients themselves.
        if self.accelerator.sync_gradients and distributed.size() > 1 and not self.sharded:
            distributed.sum_gradients(model)
        return distributed.sum_(loss)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimiser, of this process's shards if the model is sharded."""
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


class _ByLength(LengthGroupedSampler):
    """Groups examples by length, in a resumed epoch as in one that was never cut."""

    def __init__(self, batch_size: int, examples: Any, seed: int) -> None:
        super().__init__(batch_size, dataset=examples)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of `epoch` next, which counts from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # The first epoch is drawn from the state that the Trainer has just seeded. It restores that of a
        # later one only after the order is drawn.
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch) if self.epoch else None
        return super().__iter__()


@dataclass(frozen=True)
class _Collator:
    """Collates this process's share of the examples that all of them draw."""

    pad_token_id: int
    rank: int
    size: int

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        own = share(examples, self.rank, self.size)
        return ranking.collate(own) if "question" in own[0] else collate(own, self.pad_token_id)


def _arguments(config: SftConfig, examples: int, folder: Path) -> TrainingArguments:
    steps = config.epochs * math.ceil(examples / config.batch_size)
    return TrainingArguments(
        output_dir=str(folder),
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


class _Progress(TrainerCallback):
    """Logs the training about twenty times, to MLflow every step; stops at NaN loss."""

    def __init__(self, tracker: Tracker, section: str) -> None:
        self.tracker, self.section = tracker, section
        part = section.partition(".")[2]
        self.prefix = f"{part}_" if part else ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        hint = " or set sft.dtype to float32"  # the adaptation's as well
        check_finite(
            f"at step {state.global_step}", self.section, args.learning_rate, logs["loss"], hint=hint
        )
        figures = {f"{self.prefix}{name}": logs[name] for name in _TRACKED if name in logs}
        self.tracker.log(state.global_step, figures)
        every = max(1, state.max_steps // 20)
        if state.global_step % every == 0 or state.global_step == state.max_steps:
            progress(log, state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")
