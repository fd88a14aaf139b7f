"""Running a training by verl: what the `local` engine does, on GPUs.

verl runs as a process of its own. This one writes its tables, follows its log, keeps the best checkpoint,
stops a training that collapses, and turns the best into a Hugging Face folder. Started again after a kill,
it goes on from verl's newest whole checkpoint.
"""

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.lengths import check_fits, longest_prompt
from components.grpo.progress import Progress, best_of
from components.grpo.verl import process
from components.grpo.verl.overrides import (
    AGENT_LOOP,
    Attempt,
    PromptShape,
    VerlFiles,
    as_arguments,
    overrides,
)
from components.grpo.verl.state import TrainingState, whole_lines
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.errors import ConfigError, ModelError
from components.shared.language_model.dtype import are_finite
from components.shared.language_model.load import answer_prefix, load, load_tokenizer
from components.shared.prompting.table import PromptRow, write_records
from components.shared.tracking.tracker import NO_TRACKING, Tracker

_POLL_SECONDS = 1.0


def train(
    config: GrpoConfig,
    sft_model: Path,
    rows: Sequence[PromptRow],
    valid: Sequence[PromptRow],
    place: Path,
    tracker: Tracker = NO_TRACKING,
) -> Progress:
    """Train by verl from `sft_model` on `rows`; the best model lies in `best_of(place, best_step)`.

    Resumes from what an earlier call left in `place`, at the newest checkpoint: steps since are run again.

    Raises:
        ConfigError: verl is not installed, or the sizes do not fit the data or the model.
        TrainingError: verl failed or ended before its last step; a figure is not finite.
    """
    if importlib.util.find_spec("verl") is None:
        raise ConfigError(
            "grpo.engine is verl, but verl is not installed here; run the step in the trainer image, or set "
            "grpo.engine to local"
        )
    prompts = _shape(config, sft_model, rows, valid)
    place = place.resolve()
    state = TrainingState(config, rows, valid, prompts.answer_prefix, place, tracker)
    state.recall()
    step = state.progress.step
    if step < config.steps and not state.collapsed():
        attempt = state.new_attempt()
        files = VerlFiles(
            model=sft_model.resolve(),
            train=place / "train.parquet",
            valid=place / "valid.parquet",
            checkpoints=state.checkpoints,
            resume_from=state.checkpoint(step) if step else None,
            attempt=attempt,
        )
        write_records(files.train, rows)
        write_records(files.valid, valid)
        write_json(attempt.agent_loops, [AGENT_LOOP])
        _watch(state, attempt, as_arguments(overrides(config, files, prompts)))
    best = state.progress.best_step
    if best:
        _export(state.kept(best), best_of(place, best))
    return state.progress


def _shape(
    config: GrpoConfig, model: Path, rows: Sequence[PromptRow], valid: Sequence[PromptRow]
) -> PromptShape:
    """Return the longest prompt's length.

    Raises:
        ConfigError: too few prompts for a step, or a prompt with its answer exceeds what it must fit into.
    """
    from transformers import AutoConfig

    if len(rows) < config.prompts_per_step:
        raise ConfigError(
            f"grpo.prompts_per_step is {config.prompts_per_step}, but only {len(rows)} training prompts have "
            "a retrieved label; lower it or raise prompts.train_prompts"
        )
    tokenizer = load_tokenizer(model)
    context = AutoConfig.from_pretrained(model, trust_remote_code=False).max_position_embeddings
    longest = longest_prompt(config, tokenizer, context, [*rows, *valid])
    check_fits(config, longest, "grpo.verl.max_tokens_per_gpu", config.verl.max_tokens_per_gpu)
    return PromptShape(longest=longest, answer_prefix=answer_prefix(tokenizer))


def _watch(state: TrainingState, attempt: Attempt, arguments: Sequence[str]) -> None:
    """Run verl to its last step, following its log; stop it when the training collapses."""
    print(f"grpo: verl starts; all that it says is in {attempt.output}", flush=True)
    with process.running("verl.trainer.main_ppo", arguments, attempt.output) as verl:
        unread, code = 0, None
        while code is None:
            time.sleep(_POLL_SECONDS)
            code = verl.poll()  # before the log is read: nothing is missed after the end
            unread = _follow(state, attempt, unread, lambda: verl.poll() is None)
            if reason := state.collapsed():
                print(
                    f"grpo: stopped after step {state.progress.step}: {health.describe(reason)}", flush=True
                )
                return
    if code:
        raise process.failure(f"verl ended with exit status {code}", attempt.output)
    steps, progress = state.config.steps, state.progress
    if progress.step < steps or steps not in progress.validations:
        raise process.failure(f"verl ended after step {progress.step} of {steps}", attempt.output)


def _follow(state: TrainingState, attempt: Attempt, unread: int, alive: Callable[[], bool]) -> int:
    """Take up the lines of verl's log from byte `unread`; return where the next begins."""
    for line in whole_lines(attempt.log, unread):
        try:
            news = state.read(json.loads(line), attempt, alive)
        except LookupError:  # verl died before it wrote what the line tells of
            break
        unread += len(line)
        if news:
            state.progress.say(state.config.steps)
    return unread


def _export(shards: Path, model: Path) -> None:
    """Merge verl's shards into a Hugging Face folder, and read it again.

    Raises:
        TrainingError: verl's merger failed. ModelError: the merged model cannot be read or is not finite.
    """
    output = shards.with_suffix(".log")
    with atomic_folder(model) as folder:
        arguments = ["merge", "--backend", "fsdp", "--local_dir", str(shards), "--target_dir", str(folder)]
        with process.running("verl.model_merger", arguments, output) as merger:
            if code := merger.wait():
                raise process.failure(f"verl's model merger ended with exit status {code}", output)
        lm = load(folder, "float32", "cpu")
        if not are_finite(lm.model):
            raise ModelError(f"{shards}: the best checkpoint has weights that are not finite")
