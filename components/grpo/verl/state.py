"""What verl and its launcher leave on disk, and where a killed training goes on.

place/verl/global_step_N     verl's checkpoints: the newest validated one, and what verl is writing
place/best-N.shards          weights of the best checkpoint, as verl saved them
place/attempt-*              log and answers of the present attempt; each has a folder of its own
place/progress.json          figures of all steps so far
"""

import json
import math
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, progress_of, state_of
from components.grpo.rewards import business_terms, score
from components.grpo.rollout import rollout_figures, validation_figures
from components.grpo.verl.overrides import Attempt
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.errors import TrainingError
from components.shared.prompting.table import PromptRow
from components.shared.tracking.tracker import NO_TRACKING, Tracker
from data_contracts.evaluation import Alarm

FIGURES = {
    "actor/loss": "loss",
    "actor/kl_loss": "kl",
    "actor/entropy": "entropy",
    "actor/grad_norm": "grad_norm",
    "response_length/mean": "answer_tokens",
    "timing_s/step": "seconds",
}
"""verl's names of what we call otherwise, as of verl 0.9."""

PADDING = "pad"
"""How the ids of the rows begin with which verl fills up a batch."""

_SECONDS_TO_WRITE = 60

Entry = Mapping[str, Any]
"""A line of verl's log: {"step": int, "data": {name: value}}."""


class TrainingState:
    """The training in one folder: what is known of it, and what is kept of it."""

    def __init__(
        self,
        config: GrpoConfig,
        rows: Sequence[PromptRow],
        valid: Sequence[PromptRow],
        prefix: str,
        place: Path,
        tracker: Tracker = NO_TRACKING,
    ) -> None:
        self.config, self.rows, self.valid, self.prefix, self.place = config, rows, valid, prefix, place
        self.tracker = tracker
        self.business = business_terms(config.reward)
        self.progress = Progress()
        self.checkpoints = place / "verl"
        self.checkpoints.mkdir(exist_ok=True)

    def recall(self) -> None:
        """Take up what an earlier attempt came to, back to the newest checkpoint with known figures."""
        if (self.place / "progress.json").is_file():
            self.progress = progress_of(json.loads((self.place / "progress.json").read_text()))
        # Its launcher may have been killed before it read all lines, and verl before it wrote all answers.
        for folder in self.place.glob("attempt-*"):
            attempt = Attempt(folder)
            for line in whole_lines(attempt.log, 0):
                entry = json.loads(line)
                if _not_finite(entry) or not all(_answers(*dump) for dump in self._dumps(entry, attempt)):
                    break
                self.read(entry, attempt)
        step = self._newest_checkpoint()
        self.progress = self.progress.cut(step)
        self._save()
        for folder in self.place.glob("attempt-*"):
            shutil.rmtree(folder, ignore_errors=True)
        if step:
            print(f"grpo: verl goes on after step {step}", flush=True)

    def new_attempt(self) -> Attempt:
        """Return a fresh folder for what verl tells from here on."""
        attempt = Attempt(Path(tempfile.mkdtemp(prefix="attempt-", dir=self.place)))
        attempt.rollouts.mkdir()
        attempt.validations.mkdir()
        return attempt

    def read(self, entry: Entry, attempt: Attempt, alive: Callable[[], bool] = lambda: False) -> bool:
        """Take up one line of verl's log; return whether it told anything new.

        Raises:
            TrainingError: a figure is not finite, steps are missing, or the answers stay unwritten while
                verl is `alive`. LookupError: they are not written and verl is not.
        """
        if entry["step"] > self.progress.step + 1:
            raise TrainingError(f"grpo: verl tells of step {entry['step']} after step {self.progress.step}")
        dumps = self._dumps(entry, attempt)
        if dumps and (broken := _not_finite(entry)):
            raise TrainingError(
                f"grpo: {', '.join(broken)} not finite at step {entry['step']}; lower grpo.learning_rate "
                f"({self.config.learning_rate:g}) or set grpo.dtype to float32"
            )
        answers = [_awaited(*dump, alive) for dump in dumps]
        if self._is_step(entry):
            figures = self._figures(entry, answers[0])
            self.progress.add(figures)
            self.tracker.log(entry["step"], figures)
        if self._is_validation(entry):
            figures, texts = self._validation(answers[-1])
            self.progress.validated(figures, texts)
            self.tracker.log(entry["step"], figures)
            if self.progress.step and self.progress.best_step == self.progress.step:
                self._keep(self.progress.step)
        if answers:
            self._save()
        return bool(answers)

    def collapsed(self) -> Alarm | None:
        """Return why training should stop, or None."""
        return health.collapse(self.config.health, self.progress.history)

    def checkpoint(self, step: int) -> Path:
        """Return where verl saves `step`."""
        return self.checkpoints / f"global_step_{step}"

    def kept(self, step: int) -> Path:
        """Return where the weights of `step`, when best, lie as verl saved them."""
        return self.place / f"best-{step}.shards"

    def _is_step(self, entry: Entry) -> bool:
        """Return whether the line tells of the step after those that are known."""
        return entry["step"] == self.progress.step + 1 and "timing_s/step" in entry["data"]

    def _is_validation(self, entry: Entry) -> bool:
        """Return whether the line tells of a validation that is not known."""
        news = entry["step"] not in self.progress.validations and entry["step"] >= self.progress.step
        return news and any(name.startswith("val-") for name in entry["data"])

    def _dumps(self, entry: Entry, attempt: Attempt) -> list[tuple[Path, int]]:
        """Return the files of answers that the news of a line rest on, and how many lines each has."""
        name, sampled = f"{entry['step']}.jsonl", self.config.prompts_per_step * self.config.group_size
        found = [(attempt.rollouts / name, sampled)] if self._is_step(entry) else []
        return (
            [*found, (attempt.validations / name, len(self.valid))] if self._is_validation(entry) else found
        )

    def _figures(self, entry: Entry, answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return a step's figures under our names, with every term of the reward by itself."""
        groups: dict[str, list[dict[str, float]]] = {}
        for answer in answers:
            if not answer["uid"].startswith(PADDING):
                text, row = self.prefix + answer["output"], self.rows[answer["gts"]["row"]]
                group = groups.setdefault(answer["uid"].split("_")[0], [])
                group.append(score(text, row, self.config.reward, self.business))
        ours = {FIGURES[name]: value for name, value in entry["data"].items() if name in FIGURES}
        return {"kl": 0.0, **ours, **rollout_figures(list(groups.values()))}

    def _validation(self, answers: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], list[str]]:
        """Return the figures of greedy answers, and the answers, in the order of the validation prompts."""
        texts = {answer["gts"]["row"]: self.prefix + answer["output"] for answer in answers}
        return validation_figures([texts[n] for n in range(len(self.valid))], self.valid)

    def _keep(self, step: int) -> None:
        """Keep the weights of checkpoint `step` beside verl's folder, without a copy where links can be."""
        saved = self.checkpoint(step) / "actor"
        with atomic_folder(self.kept(step)) as folder:
            for file in saved.rglob("*"):
                if file.is_file() and not file.name.startswith(("optim_", "extra_state_")):
                    target = folder / file.relative_to(saved)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link_or_copy(file, target)

    def _save(self) -> None:
        """Note the progress, then remove what it makes needless: disk use is the latest and the best."""
        write_json(self.place / "progress.json", state_of(self.progress))
        for attempt in map(Attempt, self.place.glob("attempt-*")):
            for path in (*attempt.rollouts.glob("*"), *attempt.validations.glob("*")):
                if int(path.stem) < self.progress.step:
                    path.unlink()
        if not self.progress.validations:
            return
        for folder in self.place.glob("best-*.shards"):
            if folder != self.kept(self.progress.best_step):
                shutil.rmtree(folder)
        for folder in self.checkpoints.glob("global_step_*"):
            if _step_of(folder) < max(self.progress.validations):
                shutil.rmtree(folder, ignore_errors=True)

    def _newest_checkpoint(self) -> int:
        """Return the step of verl's newest whole checkpoint with known figures; later ones are removed.

        verl saves a step before it tells its figures: a kill in between leaves them unsaid.
        """
        steps = [
            _step_of(folder)
            for folder in self.checkpoints.glob("global_step_*")
            if zipfile.is_zipfile(folder / "data.pt")  # written after the weights, its index at its end
        ]
        newest = max((step for step in steps if step <= self.progress.step), default=0)
        for folder in self.checkpoints.glob("global_step_*"):
            if _step_of(folder) > newest:
                shutil.rmtree(folder)
        return newest


def whole_lines(path: Path, start: int) -> Iterator[bytes]:
    """Yield the lines from byte `start` that have their end; none if there is no file yet."""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line


def _not_finite(entry: Entry) -> list[str]:
    """Return our names of the figures that are not finite; verl's JSON has null for them."""
    told = {FIGURES[name]: value for name, value in entry["data"].items() if name in FIGURES}
    return [name for name, value in told.items() if value is None or not math.isfinite(value)]


def _awaited(path: Path, lines: int, alive: Callable[[], bool]) -> list[dict[str, Any]]:
    """Return the answers in `path` once all are there: verl writes them beside its log, in a thread."""
    for _ in range(_SECONDS_TO_WRITE):
        lives = alive()  # asked before the look: what verl wrote to its end is seen
        if answers := _answers(path, lines):
            return answers
        if not lives:
            raise LookupError(f"{path}: not all of {lines} answers")
        time.sleep(1)
    raise TrainingError(f"{path}: verl did not write {lines} answers to it; did a session of verl fail?")


def _answers(path: Path, lines: int) -> list[dict[str, Any]]:
    """Return the answers in `path`, none while some are missing."""
    found = list(whole_lines(path, 0))
    return [json.loads(line) for line in found] if len(found) == lines else []


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])
