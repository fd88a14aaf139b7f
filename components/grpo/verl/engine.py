"""Training by verl: what the `local` engine does, on GPUs.

verl runs as a process of its own. This one writes its tables, follows its log, keeps the best checkpoint,
stops a training that collapses, and turns the best into a Hugging Face folder. After a kill it resumes from
verl's newest whole checkpoint.
"""

import importlib.util
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig

from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_checkpoint, log
from components.grpo.rollout import longest_prompt
from components.grpo.verl import process
from components.grpo.verl.attempt import Attempt, whole_lines
from components.grpo.verl.overrides import AGENT_LOOP, as_arguments, overrides
from components.grpo.verl.reward import write_dataset
from components.grpo.verl.state import TrainingState
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.errors import ConfigError, ModelError
from components.shared.language_model.checks import are_finite
from components.shared.language_model.load import answer_prefix, context_length, load, load_tokenizer
from components.shared.language_model.ranker import Ranker
from components.shared.prompting.table import PromptRow
from components.shared.tracking.tracker import NO_TRACKING, Tracker

_POLL_SECONDS = 1.0


def train(
    config: GrpoConfig,
    sft_model: Path,
    rows: Sequence[PromptRow],
    valid: Sequence[PromptRow],
    checkpoint_dir: Path,
    tracker: Tracker = NO_TRACKING,
) -> Progress:
    """Train by verl from `sft_model`, or the newest checkpoint in `checkpoint_dir`; return the progress.

    The best model lies in `best_checkpoint(checkpoint_dir, best_step)`.
    """
    if importlib.util.find_spec("verl") is None:
        raise ConfigError(
            "grpo.engine is verl, but verl is not installed here; run the step in the trainer image, or set "
            "grpo.engine to local"
        )
    if config.verl.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ConfigError(
            "grpo.verl.attention is flash_attention_2, but flash-attn is not installed here; build the "
            "trainer image with FLASH_ATTENTION, or set it to sdpa"
        )
    if len(rows) < config.prompts_per_step:
        raise ConfigError(
            f"grpo.prompts_per_step is {config.prompts_per_step}, but only {len(rows)} training prompts have "
            "a retrieved label; lower it or raise prompts.train_prompts"
        )
    if Ranker.read(sft_model).answers != "generate":
        raise ConfigError("the SFT model scores candidates (sft.answers): set grpo.engine to local")
    context = context_length(AutoConfig.from_pretrained(sft_model, trust_remote_code=False))
    limits = {
        "the model's context": context,
        "grpo.verl.max_tokens_per_gpu": config.verl.max_tokens_per_gpu,
    }
    tokenizer = load_tokenizer(sft_model)
    longest = longest_prompt(config, tokenizer, [*rows, *valid], limits)
    prefix, checkpoint_dir = answer_prefix(tokenizer), checkpoint_dir.resolve()
    state = TrainingState(config, valid, prefix, checkpoint_dir, tracker)
    state.resume()
    step = state.progress.step
    if step < config.steps and not state.collapsed():
        attempt = Attempt.start(checkpoint_dir)
        write_dataset(attempt.train, rows)
        write_dataset(attempt.valid, valid)
        write_json(attempt.agent_loops, [AGENT_LOOP])
        values = overrides(
            config,
            attempt,
            model=_seen_by_all_nodes(config, sft_model, checkpoint_dir),
            checkpoints=state.verl_dir,
            resume_from=state.checkpoint(step) if step else None,
            longest_prompt=longest,
            answer_prefix=prefix,
        )
        _watch(state, attempt, as_arguments(values))
    if best := state.progress.best_step:
        _export(state.best_shards(best), best_checkpoint(checkpoint_dir, best))
    return state.progress


def _seen_by_all_nodes(config: GrpoConfig, sft_model: Path, checkpoint_dir: Path) -> Path:
    """Return the SFT model's folder, for a Ray cluster its copy in `checkpoint_dir`."""
    if not config.verl.ray_address:
        return sft_model.resolve()
    copy = checkpoint_dir / "sft_model"
    if not copy.is_dir():
        with atomic_folder(copy) as partial:
            shutil.copytree(sft_model, partial, dirs_exist_ok=True)
    return copy


def _watch(state: TrainingState, attempt: Attempt, arguments: Sequence[str]) -> None:
    """Run verl to its last step, following its log; stop it when the training collapses."""
    log.info("verl starts; its output is in %s", attempt.output)
    with process.running("verl.trainer.main_ppo", arguments, attempt.output) as verl:
        unread, code = 0, None
        while code is None:
            time.sleep(_POLL_SECONDS)
            code = verl.poll()  # before the log is read: nothing is missed after the end
            for line in whole_lines(attempt.log, unread):
                try:
                    is_new = state.read(json.loads(line), attempt, lambda: verl.poll() is None)
                except LookupError:  # not all written yet; never will be, if verl died
                    break
                unread += len(line)
                if is_new:
                    state.progress.log_step(state.config.steps)
            if reason := state.collapsed():
                log.warning("stopped after step %d: %s", state.progress.step, reason)
                return
    if code:
        raise process.failure(f"verl ended with exit status {code}", attempt.output)
    steps, progress = state.config.steps, state.progress
    if progress.step < steps or steps not in progress.validations:
        raise process.failure(f"verl ended after step {progress.step} of {steps}", attempt.output)


def _export(shards: Path, model: Path) -> None:
    """Merge verl's shards into a Hugging Face folder, and read it again."""
    output = shards.with_suffix(".log")
    with atomic_folder(model) as folder:
        arguments = ["merge", "--backend", "fsdp", "--local_dir", str(shards), "--target_dir", str(folder)]
        with process.running("verl.model_merger", arguments, output) as merger:
            if code := merger.wait():
                raise process.failure(f"verl's model merger ended with exit status {code}", output)
        lm = load(folder, "float32", "cpu")
        if not are_finite(lm.model):
            raise ModelError(f"{shards}: the best checkpoint has weights that are not finite")
