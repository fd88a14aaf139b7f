"""Run the configured engine and output the best model: GRPO's, or the SFT model if no step was better."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.grpo import health, local, page
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_checkpoint, log
from components.grpo.verl import engine as verl
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_json, write_text
from components.shared.errors import ConfigError, DataError
from components.shared.language_model.checks import explain_oom
from components.shared.language_model.load import check_folder
from components.shared.prompting.table import PromptRow, read_prompts, sample_indices
from components.shared.tracking import tracker as tracking
from data_contracts.evaluation import Alarm, TrainingAlarms

NOT_KEPT = "grpo (not kept)"
"""Model of the alarms that arose after the best step: they say nothing against it."""


@dataclass(frozen=True)
class GrpoInputs:
    """Folders of the prompts table, the SFT model and the checkpoints ("" = none are kept).

    `fingerprint` names what else the training depends on: checkpoints of another are not resumed from.
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
    """What training did; `best_step` 0 means that the output is the SFT model.

    Fewer `steps` than configured: the training collapsed and was stopped; `alarms` say why.
    """

    prompts: int
    steps: int
    best_step: int
    sft_valid_ndcg_at_10: float
    best_valid_ndcg_at_10: float
    first_reward: float
    last_reward: float
    seconds_per_step: float
    alarms: tuple[Alarm, ...]

    def metrics(self) -> dict[str, float]:
        """Return the figures that the Kubeflow UI shows."""
        figures = {name: value for name, value in vars(self).items() if name != "alarms"}
        return {**figures, "health_alarms": len(self.alarms)}


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
    log.info("%d prompts, groups of %d", len(rows), config.group_size)
    folders = (inputs.prompts, inputs.sft_model)
    with (
        checkpoints.directory(
            inputs.checkpoints, "grpo", config, *folders, also=inputs.fingerprint
        ) as checkpoint_dir,
        tracking.tracker("grpo", checkpoint_dir, config) as tracker,
    ):
        engine = {"local": local, "verl": verl}[config.engine]
        with explain_oom(
            "lower grpo.group_size, grpo.prompts_per_step, grpo.eval_batch_size or grpo.max_new_tokens, or "
            "set grpo.gradient_checkpointing"
        ):
            state = engine.train(config, inputs.sft_model, rows, valid, checkpoint_dir, tracker)
        best = state.best_step
        with atomic_folder(outputs.model) as folder:
            source = best_checkpoint(checkpoint_dir, best) if best else inputs.sft_model
            shutil.copytree(source, folder, dirs_exist_ok=True)
        alarms = _alarms(config, state)
        write_text(outputs.alarms, TrainingAlarms(alarms=tuple(alarms)).to_json())
        page.write(outputs.curves, state, valid, alarms)
        report = _report(state, len(rows), alarms)
        write_json(outputs.metrics, report.metrics())
    for alarm in alarms:
        log.warning("health: %s", health.describe(alarm))
    if not best:
        log.info("no step was better than the SFT model on validation; the output is the SFT model")
    return report


def _trainable(prompts: Path, limit: int, seed: int) -> list[PromptRow]:
    """Return training prompts whose label was retrieved: no answer to the others earns a task reward."""
    rows = [row for row in read_prompts(prompts, "train") if row.labels]
    if not rows:
        raise DataError(
            f"{prompts}/train.parquet: no prompt has its label among the candidates; raise "
            "retrieve.num_candidates or the number of training prompts"
        )
    return [rows[i] for i in sample_indices(len(rows), limit, seed)]


def _validation(prompts: Path, limit: int, seed: int) -> list[PromptRow]:
    """Return validation prompts, those with a retrieved label if any: no answer moves the others' NDCG."""
    rows = read_prompts(prompts, "valid")
    if not rows:
        raise DataError(f"{prompts}/valid.parquet: empty; raise prompts.valid_prompts")
    rows = [row for row in rows if row.labels] or rows
    return [rows[i] for i in sample_indices(len(rows), limit, seed)]


def _alarms(config: GrpoConfig, state: Progress) -> list[Alarm]:
    """Return the alarms of the whole training; the model of those that the best step lacks is NOT_KEPT."""
    best = state.until(state.best_step)
    of_best = {alarm.name for alarm in health.alarms(config.health, best.history, best.validations)}
    found = health.alarms(config.health, state.history, state.validations)
    return [alarm if alarm.name in of_best else dataclasses.replace(alarm, model=NOT_KEPT) for alarm in found]


def _report(state: Progress, prompts: int, alarms: Sequence[Alarm]) -> GrpoReport:
    rewards = state.history.get("reward", [0.0])
    seconds = sorted(state.history.get("seconds", [0.0]))
    tenth = max(1, len(rewards) // 10)
    return GrpoReport(
        prompts=prompts,
        steps=state.step,
        best_step=state.best_step,
        sft_valid_ndcg_at_10=state.validations[0]["valid_ndcg@10"],
        best_valid_ndcg_at_10=state.validations[state.best_step]["valid_ndcg@10"],
        first_reward=sum(rewards[:tenth]) / tenth,
        last_reward=sum(rewards[-tenth:]) / tenth,
        seconds_per_step=seconds[len(seconds) // 2],
        alarms=tuple(alarms),
    )
