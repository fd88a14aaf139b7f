"""What verl and its launcher leave in the checkpoint directory, and where a killed training resumes.

verl/global_step_N     verl's checkpoints: the newest validated one, and what verl is writing
best-N.shards          weights of the best checkpoint, as verl saved them
attempt-*              log and answers of the present attempt; each has a folder of its own
progress.json          figures of all steps so far
"""

import json
import math
import os
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, log
from components.grpo.rollout import rollout_figures, validation_figures
from components.grpo.verl.attempt import Answers, Attempt, Dump, Entry, named_figures, whole_lines
from components.grpo.verl.reward import ANSWER_ID
from components.shared.artifacts.outputs import atomic_folder, write_json
from components.shared.errors import TrainingError
from components.shared.prompting.table import PromptRow
from components.shared.tracking.tracker import NO_TRACKING, Tracker
from data_contracts.evaluation import Alarm

PADDING = "pad"
"""Prefix of the ids of the rows that fill up verl's batches."""


class TrainingState:
    """The progress of a training and the files that are kept of it."""

    def __init__(
        self,
        config: GrpoConfig,
        valid: Sequence[PromptRow],
        prefix: str,
        checkpoint_dir: Path,
        tracker: Tracker = NO_TRACKING,
    ) -> None:
        self.config, self.valid, self.prefix = config, valid, prefix
        self.checkpoint_dir, self.tracker = checkpoint_dir, tracker
        self.progress = Progress()
        self.verl_dir = checkpoint_dir / "verl"
        self.verl_dir.mkdir(exist_ok=True)
        self._terms: dict[str, dict[str, float]] = {}  # by the answers' ids, until their step is read
        self._terms_read: defaultdict[Path, int] = defaultdict(int)  # bytes

    def resume(self) -> None:
        """Restore the progress of earlier attempts, up to the newest checkpoint with known figures."""
        if (self.checkpoint_dir / "progress.json").is_file():
            self.progress = Progress.from_state(
                json.loads((self.checkpoint_dir / "progress.json").read_text())
            )
        # The launcher may have been killed before it read all lines, and verl before it wrote all answers.
        for folder in self.checkpoint_dir.glob("attempt-*"):
            attempt = Attempt(folder)
            for line in whole_lines(attempt.log, 0):
                try:
                    self.read(json.loads(line), attempt)
                except (LookupError, TrainingError):
                    break
        step = self._newest_checkpoint()
        self.progress = self.progress.until(step)
        self._save()
        for folder in self.checkpoint_dir.glob("attempt-*"):
            shutil.rmtree(folder, ignore_errors=True)
        if step:
            log.info("verl resumes after step %d", step)

    def read(self, entry: Entry, attempt: Attempt, alive: Callable[[], bool] = lambda: False) -> bool:
        """Add one line of verl's log to the progress; return whether it held anything new.

        Raises:
            TrainingError: a figure is not finite, steps are missing, or the answers stay unwritten while
                verl is `alive`. LookupError: they are not written and verl is not.
        """
        if entry["step"] > self.progress.step + 1:
            raise TrainingError(f"grpo: verl logged step {entry['step']} after step {self.progress.step}")
        dumps = self._dumps(entry, attempt)
        broken = [name for name, value in named_figures(entry).items() if not math.isfinite(value)]
        if dumps and broken:
            raise TrainingError(
                f"grpo: {', '.join(broken)} not finite at step {entry['step']}; lower grpo.learning_rate "
                f"({self.config.learning_rate:g}) or set grpo.dtype to float32"
            )
        answers = [dump.wait(alive) for dump in dumps]
        if self._is_step(entry):
            figures = self._step_figures(entry, answers[0], attempt)
            self.progress.add_step(figures)
            self.tracker.log(entry["step"], figures)
        if self._is_validation(entry):
            by_row = {answer["gts"]: self.prefix + answer["output"] for answer in answers[-1]}
            texts = [by_row[index] for index in range(len(self.valid))]
            figures = validation_figures(texts, self.valid)
            self.progress.add_validation(figures, texts)
            self.tracker.log(entry["step"], figures)
            if self.progress.step and self.progress.best_step == self.progress.step:
                self._keep_weights(self.progress.step)
        if answers:
            self._save()
        return bool(answers)

    def collapsed(self) -> Alarm | None:
        """Return why training should stop, or None."""
        return health.collapse(self.config.health, self.progress.history)

    def checkpoint(self, step: int) -> Path:
        """Return the folder where verl saves `step`."""
        return self.verl_dir / f"global_step_{step}"

    def best_shards(self, step: int) -> Path:
        """Return the folder of the weights of `step`, when best, as verl saved them."""
        return self.checkpoint_dir / f"best-{step}.shards"

    def _is_step(self, entry: Entry) -> bool:
        """Return whether the line is of the step that follows the progress."""
        return entry["step"] == self.progress.step + 1 and "timing_s/step" in entry["data"]

    def _is_validation(self, entry: Entry) -> bool:
        """Return whether the line is of a validation that the progress lacks."""
        is_new = entry["step"] not in self.progress.validations and entry["step"] >= self.progress.step
        return is_new and any(name.startswith("val-") for name in entry["data"])

    def _dumps(self, entry: Entry, attempt: Attempt) -> list[Dump]:
        """Return the answers that the news of a line rest on: of its step, then of its validation."""
        name, dumps = f"{entry['step']}.jsonl", []
        if self._is_step(entry):
            samples = self.config.prompts_per_step * self.config.group_size
            dumps.append(Dump(attempt.rollouts / name, samples))
        if self._is_validation(entry):
            dumps.append(Dump(attempt.validations / name, len(self.valid)))
        return dumps

    def _step_figures(self, entry: Entry, answers: Answers, attempt: Attempt) -> dict[str, float]:
        """Return a step's figures under our names, with every term of the reward.

        Raises LookupError: terms are missing, after a crash or while a file system lags.
        """
        self._read_terms(attempt)
        groups: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        ids = [
            answer["uid"].rpartition("_")[0] for answer in answers if not answer["uid"].startswith(PADDING)
        ]
        for answer_id in ids:
            groups[answer_id.partition("_")[0]].append(self._terms[answer_id])
        for answer_id in ids:
            del self._terms[answer_id]
        return {"kl": 0.0, **named_figures(entry), **rollout_figures(list(groups.values()))}

    def _read_terms(self, attempt: Attempt) -> None:
        """Add the terms that the reward has written since the last call; an answer's come before its dump."""
        for file in attempt.terms.glob("*.jsonl"):
            for line in whole_lines(file, self._terms_read[file]):
                self._terms_read[file] += len(line)
                terms = json.loads(line)
                self._terms[terms.pop(ANSWER_ID)] = terms

    def _keep_weights(self, step: int) -> None:
        """Keep the weights of checkpoint `step` beside verl's folder, as hard links where possible."""
        others = shutil.ignore_patterns("optim_*", "extra_state_*")
        with atomic_folder(self.best_shards(step)) as folder:
            shutil.copytree(
                self.checkpoint(step) / "actor",
                folder,
                ignore=others,
                copy_function=_link_or_copy,
                dirs_exist_ok=True,
            )

    def _save(self) -> None:
        """Write the progress, then remove what it does not need: disk use is the latest and the best."""
        write_json(self.checkpoint_dir / "progress.json", self.progress.state_dict())
        for attempt in map(Attempt, self.checkpoint_dir.glob("attempt-*")):
            for path in (*attempt.rollouts.glob("*"), *attempt.validations.glob("*")):
                if int(path.stem) < self.progress.step:
                    path.unlink()
        if not self.progress.validations:
            return
        for folder in self.checkpoint_dir.glob("best-*.shards"):
            if folder != self.best_shards(self.progress.best_step):
                shutil.rmtree(folder)
        for folder in self.verl_dir.glob("global_step_*"):
            if _step_of(folder) < max(self.progress.validations):
                shutil.rmtree(folder, ignore_errors=True)

    def _newest_checkpoint(self) -> int:
        """Return the step of verl's newest whole checkpoint with known figures; remove later ones.

        verl saves a step before it logs its figures: after a kill in between they are unknown.
        """
        steps = [
            _step_of(folder)
            for folder in self.verl_dir.glob("global_step_*")
            if zipfile.is_zipfile(folder / "data.pt")  # written after the weights, its index at its end
        ]
        newest = max((step for step in steps if step <= self.progress.step), default=0)
        for folder in self.verl_dir.glob("global_step_*"):
            if _step_of(folder) > newest:
                shutil.rmtree(folder)
        return newest


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])
