"""Run the configured engine and output the best model: GRPO's, or the SFT model if no step gained."""

import dataclasses
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.grpo import health, local, page
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_checkpoint, log
from components.grpo.verl import engine as verl
from components.shared.artifacts.checkpoints import directory as checkpoint_directory
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.artifacts.storage import is_remote
from components.shared.errors import ConfigError, DataError
from components.shared.language_model.checks import explain_oom
from components.shared.language_model.load import check_folder
from components.shared.prompting.table import read_prompts
from components.shared.tracking import tracker as tracking
from data_contracts.evaluation import Alarm, TrainingAlarms

NOT_KEPT = "grpo (not kept)"
"""Model of the alarms that arose after the best step: they say nothing against it."""


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


def run(
    config: GrpoConfig,
    *,
    prompts: Path,
    sft_model: Path,
    model: Path,
    curves: Path,
    alarms: Path,
    checkpoints: str = "",
    fingerprint: str = "",
) -> GrpoReport:
    """Train and write the model, the page of its curves and its alarms.

    `checkpoints` is the folder or URI to resume from ("": none is kept), `fingerprint` names what else than
    the configuration and the inputs the training depends on: checkpoints of another are not resumed from.
    """
    check_folder(sft_model)
    if config.engine == "verl" and config.verl.ray_address and (not checkpoints or is_remote(checkpoints)):
        raise ConfigError(
            "grpo.verl.ray_address: other nodes need `checkpoints`, a folder that all of them see"
        )
    # A prompt without a retrieved label earns no reward of the task and no NDCG.
    rows = read_prompts(prompts, "train", config.max_prompts, config.seed, listed=True)
    if not any(row.labels for row in rows):
        raise DataError(
            f"{prompts}/train.parquet: no prompt has its label among the candidates; raise "
            "retrieve.num_candidates or the number of training prompts"
        )
    valid = read_prompts(prompts, "valid", config.eval_prompts, config.seed, listed=True)
    if not valid:
        raise DataError(f"{prompts}/valid.parquet: empty; raise prompts.valid_prompts")
    if not any(row.labels for row in valid):
        log.warning(
            "no validation prompt has its label among the candidates: no step can gain, and the output will "
            "be the SFT model; raise prompts.valid_prompts or retrieve.num_candidates"
        )
    log.info("%d prompts, groups of %d", len(rows), config.group_size)
    with (
        checkpoint_directory(
            checkpoints, "grpo", config, prompts, sft_model, also=fingerprint
        ) as checkpoint_dir,
        tracking.tracker("grpo", checkpoint_dir, config) as tracker,
    ):
        engine = {"local": local, "verl": verl}[config.engine]
        with explain_oom(
            "lower grpo.group_size, grpo.prompts_per_step, grpo.eval_batch_size or grpo.max_new_tokens, or "
            "set grpo.gradient_checkpointing"
        ):
            state = engine.train(config, sft_model, rows, valid, checkpoint_dir, tracker)
        best = state.best_step
        with atomic_folder(model) as folder:
            source = best_checkpoint(checkpoint_dir, best) if best else sft_model
            shutil.copytree(source, folder, dirs_exist_ok=True)
        report = _report(state, len(rows), _alarms(config, state))
        write_text(alarms, TrainingAlarms(alarms=report.alarms).to_json())
        page.write(curves, state, valid, report.alarms)
    for alarm in report.alarms:
        log.warning("health: %s", alarm)
    log.info("the output is %s", state.kept)
    return report


def _alarms(config: GrpoConfig, state: Progress) -> list[Alarm]:
    """Return the whole training's alarms; those the best step lacks get model NOT_KEPT."""
    best = state.until(state.best_step)
    of_best = {alarm.name for alarm in health.alarms(config.health, best.history, best.validations)}
    found = health.alarms(config.health, state.history, state.validations)
    return [alarm if alarm.name in of_best else dataclasses.replace(alarm, model=NOT_KEPT) for alarm in found]


def _report(state: Progress, prompts: int, alarms: Sequence[Alarm]) -> GrpoReport:
    rewards = state.history.get("reward", [0.0])
    tenth = max(1, len(rewards) // 10)
    return GrpoReport(
        prompts=prompts,
        steps=state.step,
        best_step=state.best_step,
        sft_valid_ndcg_at_10=state.validations[0]["valid_ndcg@10"],
        best_valid_ndcg_at_10=state.validations[state.best_step]["valid_ndcg@10"],
        first_reward=sum(rewards[:tenth]) / tenth,
        last_reward=sum(rewards[-tenth:]) / tenth,
        seconds_per_step=statistics.median_high(state.history.get("seconds", [0.0])),
        alarms=tuple(alarms),
    )
