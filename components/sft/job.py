"""Fine-tune in as many processes as there are GPUs; the output is one whole safetensors folder."""

import dataclasses
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from components.sft import distributed, training
from components.sft.adaptation import FOLDER, Histories
from components.sft.config import SftConfig
from components.sft.ranking import Fusion
from components.shared.artifacts.checkpoints import directory, latest_trainer_checkpoint
from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import ConfigError, faults_as
from components.shared.language_model.load import check_folder
from components.shared.metrics import mean
from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Figures, Heading, Note, Table, Text
from components.shared.tracking import tracker as tracking

_TITLE = "Supervised fine-tuning"


@dataclass(frozen=True)
class SftReport:
    """Examples, optimiser steps, mean loss of the first and last tenth of them, seconds."""

    examples: int = 0
    steps: int = 0
    first_loss: float = 0.0
    last_loss: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        losses = f"loss {self.first_loss:.3f} to {self.last_loss:.3f}"
        return f"{self.examples:,} examples, {self.steps:,} steps in {self.seconds:,.0f} s, {losses}"


def run(
    config: SftConfig,
    *,
    prompts: Path,
    base_model: Path,
    model: Path,
    curves: Path,
    checkpoints: str = "",
    histories: Histories | None = None,
) -> SftReport:
    """Train, write `model` and the page `curves`; resume from the latest of the `checkpoints`.

    `prompts` is the folder of the prompts table; `checkpoints` is a folder, a URI or "" for none; `histories`
    are read where `config` asks for an adaptation.

    Raises: DataError, ModelError, ConfigError; TrainingError if a loss is not finite, memory is used up or a
    worker process is killed.
    """
    if not config.epochs and config.answers == "generate" and not config.adaptation.tokens:
        return _copy_base_model(base_model, model, curves)
    processes = distributed.resolve(config.processes)
    with faults_as(ConfigError):
        config.micro_batches(processes)
    # A checkpoint serves any number of processes.
    resumable = dataclasses.replace(config, processes=0, fsdp=False)
    read = [histories.sequences, histories.catalogue] if histories else []
    with (
        directory(checkpoints, "sft", resumable, prompts, base_model, *read) as checkpoint_dir,
        tracking.tracker("sft", checkpoint_dir, config) as tracker,
    ):
        adapting = checkpoint_dir / FOLDER
        train = partial(
            training.train,
            histories=histories,
            config=config,
            prompts=prompts,
            base_model=base_model,
            model=model,
            checkpoint_dir=checkpoint_dir,
            checkpoint=latest_trainer_checkpoint(checkpoint_dir),
            adapted=latest_trainer_checkpoint(adapting) if adapting.is_dir() else None,
        )
        done = distributed.run(train, processes, tracker)
        tenth = max(1, len(done.losses) // 10)
        report = SftReport(
            examples=done.examples,
            steps=len(done.losses),
            first_loss=mean(done.losses[:tenth]),
            last_loss=mean(done.losses[-tenth:]),
            seconds=done.seconds,
        )
        per = "token" if config.answers == "generate" else "prompt"
        curve = {f"loss (nats per {per})": done.losses}
        if done.adaptation:
            curve = {"loss of the adaptation (nats per token)": done.adaptation, **curve}
        blocks: list[Block] = [Figures(charts.curves(curve))]
        page.write(curves, _TITLE, [*blocks, *_fusion(done.fusion)], lead=str(report))
    return report


def _fusion(fusion: Fusion | None) -> list[Block]:
    """Return what model and retriever contribute to the order of a scoring model."""
    if not fusion:
        return []
    ranker = fusion.ranker
    rows = [
        ["retriever's order", "", f"{fusion.order:.4f}"],
        ["model alone", f"{ranker.scale:.4g}", f"{fusion.model:.4f}"],
        ["both", f"retriever {ranker.fuse:.4g}", f"{fusion.both:.4f}"],
    ]
    note = (
        f"{fusion.prompts:,} validation prompts with a retrieved label, on which the weights were fitted "
        f"({ranker.answers})."
    )
    return [Heading("What model and retriever add"), Note(note), Table(["", "weight", "NDCG@10"], rows)]


def _copy_base_model(base_model: Path, model: Path, curves: Path) -> SftReport:
    training.log.info("no epochs: the base model is returned unchanged")
    check_folder(base_model)
    with atomic_folder(model) as folder:
        shutil.copytree(base_model, folder, dirs_exist_ok=True)
    page.write(curves, _TITLE, [Text("No epochs: the base model is returned unchanged.")])
    return SftReport()
