"""The verl engine: GRPO on GPUs by verl's own entry point, with vLLM sampling, watched from outside.

verl runs as a process of its own. This one writes its tables, follows its log, keeps the best checkpoint,
stops a training that collapses, and turns the best into a Hugging Face folder. Started again after a kill,
it goes on from verl's newest whole checkpoint.
"""

import contextlib
import ctypes
import importlib.util
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, best_of, progress_of, state_of
from components.grpo.rewards import business_terms, score
from components.grpo.rollout import rollout_figures, validation_figures
from components.grpo.verl import PromptShape, VerlFiles, as_arguments, overrides
from components.shared.errors import ConfigError, ModelError, TrainingError
from components.shared.language_model import answer_prefix, encode_prompt, load, load_tokenizer
from components.shared.outputs import whole_folder, write_json, write_text
from components.shared.prompt_table import PromptRow, record_of

TRACKER = "latest_checkpointed_iteration.txt"
FIGURES = {
    "actor/pg_loss": "loss",
    "actor/kl_loss": "kl",
    "actor/entropy": "entropy",
    "actor/grad_norm": "grad_norm",
    "response_length/mean": "answer_tokens",
    "timing_s/step": "seconds",
}
"""verl's names of what we call otherwise, as of verl 0.9."""

_POLL_SECONDS = 1.0
_SECONDS_TO_WRITE = 60
_SECONDS_TO_STOP = 60
_LINES_SHOWN = 30


def train(
    config: GrpoConfig, sft_model: Path, rows: Sequence[PromptRow], valid: Sequence[PromptRow], place: Path
) -> Progress:
    """Train by verl from `sft_model` on `rows`; the best model lies in `best_of(place, best_step)`.

    Resumes from what an earlier call left in `place`, to the newest checkpoint: steps since are run again.

    Raises:
        ConfigError: verl is not installed, or the sizes do not fit the data or the model.
        TrainingError: verl failed or ended before its last step; a figure is not finite.
    """
    prompts = _shape(config, sft_model, [*rows, *valid])
    if len(rows) < config.prompts_per_step:
        raise ConfigError(
            f"grpo.prompts_per_step is {config.prompts_per_step}, but only {len(rows)} training prompts have "
            "a retrieved label; lower it or raise prompts.train_prompts"
        )
    place = place.resolve()
    run = _Run(config, rows, valid, prompts.answer_prefix, place)
    _write_table(place / "train.parquet", rows)
    _write_table(place / "valid.parquet", valid)
    run.recall()
    if run.progress.step < config.steps and not run.collapsed():
        files = VerlFiles(
            model=sft_model.resolve(),
            train=place / "train.parquet",
            valid=place / "valid.parquet",
            checkpoints=run.checkpoints,
            rollouts=run.rollouts,
            validations=run.validations,
            log=run.log,
        )
        values = {"trainer.val_before_train": not run.progress.validations}
        _watch(run, as_arguments(overrides(config, files, prompts) | values))
    if run.progress.best_step:
        _export(run.kept(run.progress.best_step), best_of(place, run.progress.best_step))
    return run.progress


def _shape(config: GrpoConfig, model: Path, rows: Sequence[PromptRow]) -> PromptShape:
    """Return the longest prompt's length. Raises ConfigError if it and its answer exceed the context."""
    from transformers import AutoConfig

    if importlib.util.find_spec("verl") is None:
        raise ConfigError(
            "grpo.engine is verl, but verl is not installed here; run the step in the trainer image, or set "
            "grpo.engine to local"
        )
    tokenizer = load_tokenizer(model)
    longest = max(len(encode_prompt(tokenizer, row.messages)) for row in rows)
    context = AutoConfig.from_pretrained(model, trust_remote_code=False).max_position_embeddings
    if longest + config.max_new_tokens > context:
        raise ConfigError(
            f"the longest prompt has {longest} tokens, with grpo.max_new_tokens {config.max_new_tokens} more "
            f"than the model's context of {context}; lower prompts.max_tokens or grpo.max_new_tokens"
        )
    return PromptShape(longest=longest, answer_prefix=answer_prefix(tokenizer))


def _write_table(path: Path, rows: Sequence[PromptRow]) -> None:
    """Write `rows` for verl; `ground_truth.row` tells in verl's dumps whose answers they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist([record_of(row, row=n) for n, row in enumerate(rows)]), partial)
    os.replace(partial, path)


class _Run:
    """What lies in `place`: verl's checkpoints and logs, our progress, and the best checkpoint's weights."""

    def __init__(
        self,
        config: GrpoConfig,
        rows: Sequence[PromptRow],
        valid: Sequence[PromptRow],
        prefix: str,
        place: Path,
    ) -> None:
        self.config, self.rows, self.valid, self.prefix = config, rows, valid, prefix
        self.business = business_terms(config.reward)
        self.progress = Progress()
        self.place, self.log = place, place / "log.jsonl"
        self.checkpoints, self.rollouts = place / "verl", place / "rollouts"
        self.validations = place / "validations"
        for folder in (self.checkpoints, self.rollouts, self.validations):
            folder.mkdir(exist_ok=True)

    def recall(self) -> None:
        """Take up what an earlier call came to, back to the newest checkpoint with known figures."""
        if (self.place / "progress.json").is_file():
            self.progress = progress_of(json.loads((self.place / "progress.json").read_text()))
        # That call may have been killed before it read all of these, and verl before it wrote the answers.
        for line in _whole_lines(self.log, 0):
            entry = json.loads(line)
            if not all(_answers(*dump) for dump in self._dumps(entry)):
                break
            self.take(entry)
        reached = self._whole_checkpoint()
        self.progress = self.progress.cut(reached)
        if self.progress.validations:
            self._save()
        self.log.unlink(missing_ok=True)  # verl begins it anew
        if reached:
            print(f"grpo: verl goes on after step {reached}", flush=True)

    def take(self, entry: Mapping[str, Any]) -> bool:
        """Take up one line of verl's log; return whether it told anything new."""
        answers = [_awaited(*dump) for dump in self._dumps(entry)]
        if self._is_step(entry):
            self.progress.add(self._figures(entry, answers[0]))
        if self._is_validation(entry):
            self.progress.validated(*self._validation(answers[-1]))
            if self.progress.step and self.progress.best_step == self.progress.step:
                self._keep(self.progress.step)
        if answers:
            self._save()
        return bool(answers)

    def _is_step(self, entry: Mapping[str, Any]) -> bool:
        """Return whether the line tells of the step after those that are known."""
        return entry["step"] == self.progress.step + 1 and "timing_s/step" in entry["data"]

    def _is_validation(self, entry: Mapping[str, Any]) -> bool:
        """Return whether the line tells of a validation that is not known."""
        news = entry["step"] not in self.progress.validations and entry["step"] >= self.progress.step
        return news and any(name.startswith("val-") for name in entry["data"])

    def _dumps(self, entry: Mapping[str, Any]) -> list[tuple[Path, int]]:
        """Return the files of answers that the news of a line rest on, and how many lines each has."""
        name, sampled = f"{entry['step']}.jsonl", self.config.prompts_per_step * self.config.group_size
        found = [(self.rollouts / name, sampled)] if self._is_step(entry) else []
        return [*found, (self.validations / name, len(self.valid))] if self._is_validation(entry) else found

    def collapsed(self) -> health.Alarm | None:
        """Return why training should stop, or None."""
        return health.collapse(self.config.health, self.progress.history)

    def kept(self, step: int) -> Path:
        """Return where the weights of `step`, when best, lie as verl saved them."""
        return self.place / f"best-{step}.shards"

    def _figures(self, entry: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return a step's figures under our names, with every term of the reward by itself."""
        ours = {FIGURES[name]: value for name, value in entry["data"].items() if name in FIGURES}
        broken = [name for name, value in ours.items() if value is None or not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"grpo: {', '.join(broken)} not finite at step {entry['step']}; lower grpo.learning_rate "
                f"({self.config.learning_rate:g}) or set grpo.dtype to float32"
            )
        groups: dict[str, list[dict[str, float]]] = {}
        for answer in answers:
            text, row = self.prefix + answer["output"], self.rows[answer["gts"]["row"]]
            group = groups.setdefault(answer["uid"].split("_")[0], [])
            group.append(score(text, row, self.config.reward, self.business))
        return {"kl": 0.0, **ours, **rollout_figures(list(groups.values()))}

    def _validation(self, answers: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], list[str]]:
        """Return the figures of greedy answers, and the answers, in the order of the validation prompts."""
        texts = {answer["gts"]["row"]: self.prefix + answer["output"] for answer in answers}
        return validation_figures([texts[n] for n in range(len(self.valid))], self.valid)

    def _keep(self, step: int) -> None:
        """Keep the weights of checkpoint `step` beside verl's folder, without a copy where links can be."""
        saved = self.checkpoints / f"global_step_{step}" / "actor"
        with whole_folder(self.kept(step)) as folder:
            for file in saved.rglob("*"):
                if file.is_file() and not file.name.startswith(("optim_", "extra_state_")):
                    target = folder / file.relative_to(saved)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link_or_copy(file, target)

    def _save(self) -> None:
        """Note the progress, then remove what it makes needless: disk use is the latest and the best."""
        progress = self.progress
        write_json(self.place / "progress.json", state_of(progress))
        for path in (*self.rollouts.iterdir(), *self.validations.iterdir()):
            if int(path.stem) < progress.step:
                path.unlink()
        for folder in self.place.glob("best-*.shards"):
            if folder != self.kept(progress.best_step):
                shutil.rmtree(folder)
        for folder in self.checkpoints.glob("global_step_*"):
            if _step_of(folder) < max(progress.validations):
                shutil.rmtree(folder, ignore_errors=True)

    def _whole_checkpoint(self) -> int:
        """Return the step from which verl will go on: its newest whole checkpoint with known figures.

        verl writes its tracker in place, before it tells a step's figures: a kill may leave it empty, or
        the figures unsaid.
        """
        steps = [
            _step_of(folder)
            for folder in self.checkpoints.glob("global_step_*")
            if zipfile.is_zipfile(folder / "data.pt")  # written after the weights, its index at its end
        ]
        step = max((step for step in steps if step <= self.progress.step), default=0)
        for folder in self.checkpoints.glob("global_step_*"):
            if _step_of(folder) > step:
                shutil.rmtree(folder)
        if step:
            write_text(self.checkpoints / TRACKER, str(step))
        else:
            (self.checkpoints / TRACKER).unlink(missing_ok=True)
        return step


def _watch(run: _Run, arguments: Sequence[str]) -> None:
    """Run verl to its last step, following its log; stop it when the training collapses."""
    output = run.place / "verl.log"
    print(f"grpo: verl starts; all that it says is in {output}", flush=True)
    with _verl("verl.trainer.main_ppo", arguments, output) as process:
        unread, code = 0, None
        while code is None:
            time.sleep(_POLL_SECONDS)
            code = process.poll()  # before the log is read: nothing is missed after the end
            unread = _follow(run, unread)
            if reason := run.collapsed():
                print(f"grpo: stopped after step {run.progress.step}: {health.told(reason)}", flush=True)
                return
    if code:
        raise TrainingError(_failure(f"verl ended with exit status {code}", output))
    if run.progress.step < run.config.steps or run.config.steps not in run.progress.validations:
        raise TrainingError(
            _failure(f"verl ended after step {run.progress.step} of {run.config.steps}", output)
        )


def _follow(run: _Run, unread: int) -> int:
    """Take up the lines of verl's log from byte `unread`; return where the next begins."""
    for line in _whole_lines(run.log, unread):
        unread += len(line)
        if run.take(json.loads(line)):
            run.progress.say(run.config.steps)
    return unread


def _awaited(path: Path, lines: int) -> list[dict[str, Any]]:
    """Return the answers in `path` once all are there: verl writes them beside its log, in a thread."""
    for _ in range(_SECONDS_TO_WRITE):
        if answers := _answers(path, lines):
            return answers
        time.sleep(_POLL_SECONDS)
    raise TrainingError(f"{path}: verl did not write {lines} answers to it; is the disk full?")


def _answers(path: Path, lines: int) -> list[dict[str, Any]]:
    """Return the answers in `path`, none while some are missing."""
    found = list(_whole_lines(path, 0))
    return [json.loads(line) for line in found] if len(found) == lines else []


def _whole_lines(path: Path, start: int) -> Iterator[bytes]:
    """Yield the lines from byte `start` that have their end; none if there is no file yet."""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(start)
            yield from itertools.takewhile(lambda line: line.endswith(b"\n"), file)


@contextlib.contextmanager
def _verl(module: str, arguments: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of verl; at the end of the block it, and all that it started, is stopped."""
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",  # the model is a folder
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [_project(), os.environ.get("PYTHONPATH")])),
    }
    with output.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=output.parent,  # verl leaves Hydra's folder where it runs
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its session: verl's driver ends Ray when it is asked to."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _die_with_parent() -> None:
    """Ask Linux to end this process with its parent, even when that is killed: two would share a folder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _project() -> str:
    """Return the folder of the project's packages: verl's workers import the reward from it."""
    return str(Path(__file__).parents[2])


def _failure(what: str, output: Path) -> str:
    """Return `what` with the end of verl's output, and the knob to turn where the cause is known."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    text = "\n".join(lines[-_LINES_SHOWN:])
    advice = ""
    if any("out of memory" in line or "OutOfMemoryError" in line for line in lines):
        advice = "; memory ran out: lower grpo.verl.max_tokens_per_gpu or grpo.verl.gpu_memory_utilization"
    return f"grpo: {what}{advice}. The end of {output}:\n{text}"


def _export(shards: Path, model: Path) -> None:
    """Merge verl's shards into a Hugging Face folder, and read it again.

    Raises:
        TrainingError: verl's merger failed. ModelError: the merged model cannot be read or is not finite.
    """
    output = shards.with_suffix(".log")
    with whole_folder(model) as folder:
        arguments = ["merge", "--backend", "fsdp", "--local_dir", str(shards), "--target_dir", str(folder)]
        with _verl("verl.model_merger", arguments, output) as process:
            if code := process.wait():
                raise TrainingError(_failure(f"verl's model merger ended with exit status {code}", output))
        lm = load(folder, "float32", "cpu")
        if not all(weights.isfinite().all() for weights in lm.model.parameters()):
            raise ModelError(f"{shards}: the best checkpoint has weights that are not finite")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])
