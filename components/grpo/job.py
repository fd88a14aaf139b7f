"""Run the configured engine and hand on the best model: GRPO's, or the SFT model if nothing was better."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.grpo import health, local, page
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_of
from components.grpo.verl import engine as verl
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_json, write_text
from components.shared.errors import ConfigError, DataError
from components.shared.language_model.checks import explain_oom
from components.shared.language_model.load import check_folder
from components.shared.prompting.table import PromptRow, drawn, read_prompts
from components.shared.tracking import tracker as tracking
from data_contracts.evaluation import Alarm, TrainingAlarms

NOT_KEPT = "grpo (not kept)"
"""Whose alarms they are that arose after the step that is handed on: they say nothing against it."""


@dataclass(frozen=True)
class GrpoInputs:
    """Folders of the prompts table and the SFT model; where checkpoints may lie ("" = nowhere).

    `fingerprint` names what else the training depends on: a checkpoint of another is not taken up.
    """

    prompts: Path
    sft_model: Path
    checkpoints: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class GrpoOutputs:
    """Folder of the trained model, page of its curves, files of its figures and alarms."""

    model: Path
    curves: Path
    metrics: Path
    alarms: Path


@dataclass(frozen=True, kw_only=True)
class GrpoReport:
    """What training did. `best_step` 0 means that the SFT model goes on unchanged.

    Fewer `steps` than configured: the training collapsed and was stopped; `alarms` say why.
    """

    prompts: int
    steps: int
    best_step: int
    sft_valid_ndcg: float
    best_valid_ndcg: float
    first_reward: float
    last_reward: float
    seconds_per_step: float
    alarms: tuple[Alarm, ...]

    def metrics(self) -> dict[str, float]:
        """Return the figures that the Kubeflow UI shows."""
        return {
            "prompts": self.prompts,
            "steps": self.steps,
            "best_step": self.best_step,
            "sft_valid_ndcg_at_10": self.sft_valid_ndcg,
            "best_valid_ndcg_at_10": self.best_valid_ndcg,
            "first_reward": self.first_reward,
            "last_reward": self.last_reward,
            "seconds_per_step": self.seconds_per_step,
            "health_alarms": len(self.alarms),
        }


def run(config: GrpoConfig, inputs: GrpoInputs, outputs: GrpoOutputs) -> GrpoReport:
    """Train and write the model, its curves and its figures.

    Raises:
        DataError: no training prompt has its label among the candidates. ModelError: no usable model.
        TrainingError: the loss is not finite; the memory is used up; verl failed.
        ConfigError: the engine cannot run here, or a prompt does not fit into the model's context.
    """
    check_folder(inputs.sft_model)
    if config.engine == "verl" and config.verl.ray_address and not inputs.checkpoints:
        raise ConfigError(
            "grpo.verl.ray_address: other nodes need `checkpoints`, a folder that all of them see"
        )
    rows = _trainable(inputs.prompts, config.max_prompts, config.seed)
    valid = _validation(inputs.prompts, config.eval_prompts, config.seed)
    print(f"grpo: {len(rows)} prompts, groups of {config.group_size}", flush=True)
    folders = (inputs.prompts, inputs.sft_model)
    with (
        checkpoints.directory(inputs.checkpoints, "grpo", config, *folders, also=inputs.fingerprint) as place,
        tracking.tracker("grpo", place, config) as tracker,
    ):
        engine = {"local": local, "verl": verl}[config.engine]
        with explain_oom(
            "lower grpo.group_size, grpo.prompts_per_step, grpo.eval_batch_size or grpo.max_new_tokens, or "
            "set grpo.gradient_checkpointing"
        ):
            state = engine.train(config, inputs.sft_model, rows, valid, place, tracker)
        best = state.best_step
        with atomic_folder(outputs.model) as folder:
            shutil.copytree(best_of(place, best) if best else inputs.sft_model, folder, dirs_exist_ok=True)
        alarms = _alarms(config, state)
        write_text(outputs.alarms, TrainingAlarms(alarms=tuple(alarms)).to_json())
        page.write(outputs.curves, state, valid, alarms)
        report = _report(state, len(rows), alarms)
        write_json(outputs.metrics, report.metrics())
    for alarm in alarms:
        print(f"grpo: health: {health.describe(alarm)}", flush=True)
    if not best:
        print("grpo: no step was better than the SFT model on validation; the SFT model goes on", flush=True)
    return report


def _trainable(prompts: Path, limit: int, seed: int) -> list[PromptRow]:
    """Return training prompts whose label was retrieved: the others earn no task reward whatever is said."""
    rows = [row for row in read_prompts(prompts, "train") if row.labels]
    if not rows:
        raise DataError(
            f"{prompts}/train.parquet: no prompt has its label among the candidates; raise "
            "retrieve.num_candidates or the number of training prompts"
        )
    return [rows[i] for i in drawn(len(rows), limit, seed)]


def _validation(prompts: Path, limit: int, seed: int) -> list[PromptRow]:
    """Return validation prompts, those with a retrieved label if any: no answer moves the others' NDCG."""
    rows = read_prompts(prompts, "valid")
    if not rows:
        raise DataError(f"{prompts}/valid.parquet: empty; raise prompts.valid_prompts")
    rows = [row for row in rows if row.labels] or rows
    return [rows[i] for i in drawn(len(rows), limit, seed)]


def _alarms(config: GrpoConfig, state: Progress) -> list[Alarm]:
    """Return the alarms of the whole training; those that the best step had not raised are NOT_KEPT's."""
    kept = state.cut(state.best_step)
    mine = {alarm.name for alarm in health.alarms(config.health, kept.history, kept.validations)}
    found = health.alarms(config.health, state.history, state.validations)
    return [alarm if alarm.name in mine else dataclasses.replace(alarm, model=NOT_KEPT) for alarm in found]


def _report(state: Progress, prompts: int, alarms: Sequence[Alarm]) -> GrpoReport:
    rewards = state.history.get("reward", [0.0])
    seconds = sorted(state.history.get("seconds", [0.0]))
    tenth = max(1, len(rewards) // 10)
    return GrpoReport(
        prompts=prompts,
        steps=state.step,
        best_step=state.best_step,
        sft_valid_ndcg=state.validations[0]["valid_ndcg@10"],
        best_valid_ndcg=state.validations[state.best_step]["valid_ndcg@10"],
        first_reward=sum(rewards[:tenth]) / tenth,
        last_reward=sum(rewards[-tenth:]) / tenth,
        seconds_per_step=seconds[len(seconds) // 2],
        alarms=tuple(alarms),
    )
