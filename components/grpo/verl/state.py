"""What verl and its launcher leave in the checkpoint directory, and where a killed training resumes.

verl/global_step_N     verl's checkpoints: the newest validated one, and what verl is writing
best-N.shards          weights of the best checkpoint, as verl saved them
attempt-*              log and answers of the present attempt; each has a folder of its own
progress.json          figures of all steps so far
"""

import json
import math
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.progress import Progress, log
from components.grpo.rollout import rollout_figures, validation_scores
from components.grpo.verl.attempt import Attempt, read_answers, whole_lines
from components.grpo.verl.reward import ANSWER_ID
from components.shared.artifacts import checkpoint_store
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
"""Our names of verl's figures, as of verl 0.9."""

PADDING = "pad"
"""Prefix of the ids of the rows that fill up verl's batches."""


@dataclass
class TrainingState:
    """The progress of a training and the files that are kept of it."""

    config: GrpoConfig
    valid: Sequence[PromptRow]
    prefix: str
    checkpoint_dir: Path
    tracker: Tracker = NO_TRACKING
    progress: Progress = field(default_factory=Progress)
    _terms: dict[str, dict[str, float]] = field(default_factory=dict)  # by the answers' ids
    _terms_read: defaultdict[Path, int] = field(default_factory=lambda: defaultdict(int))  # bytes

    @property
    def verl_dir(self) -> Path:
        """Return the folder of verl's checkpoints."""
        return self.checkpoint_dir / "verl"

    def resume(self) -> None:
        """Restore the progress of earlier attempts, up to the newest checkpoint with known figures."""
        self.verl_dir.mkdir(exist_ok=True)
        if (saved := self.checkpoint_dir / "progress.json").is_file():
            self.progress = Progress.from_state(json.loads(saved.read_text()))
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
        self._terms.clear()
        self._terms_read.clear()
        if step:
            log.info("verl resumes after step %d", step)

    def read(
        self, entry: Mapping[str, Any], attempt: Attempt, alive: Callable[[], bool] = lambda: False
    ) -> bool:
        """Add one line of verl's log to the progress; return whether it held anything new.

        Raises LookupError: answers or their terms are missing, and verl is not `alive` to write them.
        """
        step, data = entry["step"], entry["data"]
        if step > self.progress.step + 1:
            raise TrainingError(f"grpo: verl logged step {step} after step {self.progress.step}")
        is_step = step == self.progress.step + 1 and "timing_s/step" in data
        is_validation = (
            step >= self.progress.step
            and step not in self.progress.validations
            and any(name.startswith("val-") for name in data)
        )
        if not is_step and not is_validation:
            return False
        figures = {FIGURES[name]: value for name, value in data.items() if name in FIGURES}
        broken = [name for name, value in figures.items() if value is None or not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"grpo: {', '.join(broken)} not finite at step {step}; lower grpo.learning_rate "
                f"({self.config.learning_rate:g}) or set grpo.dtype to float32"
            )
        file, samples = f"{step}.jsonl", self.config.prompts_per_step * self.config.group_size
        sampled = read_answers(attempt.rollouts / file, samples, alive) if is_step else []
        greedy = read_answers(attempt.validations / file, len(self.valid), alive) if is_validation else []
        self._read_terms(attempt)
        if is_step:
            figures = {"kl": 0.0, **figures, **rollout_figures(self._scored_groups(sampled))}
            self.progress.add_step(figures)
            self.tracker.log(step, figures)
        if is_validation:
            for answer_id in _answer_ids(greedy):
                self._terms.pop(answer_id, None)  # a validation's figures come from the texts
            by_row = {answer["gts"]: self.prefix + answer["output"] for answer in greedy}
            texts = [by_row[index] for index in range(len(self.valid))]
            self.progress.add_validation(validation_scores(texts, self.valid, self.config.reward), texts)
            self.tracker.log(step, self.progress.validations[step])
            if self.progress.step and self.progress.best_step == self.progress.step:
                self._keep_weights()
        self._save()
        if is_validation:  # what verl validates, it has saved before
            checkpoint_store.push(self.checkpoint_dir, skip="attempt-*")
        return True

    def collapsed(self) -> Alarm | None:
        """Return why training should stop, or None."""
        return health.collapse(self.config.health, self.progress.history)

    def checkpoint(self, step: int) -> Path:
        """Return the folder where verl saves `step`."""
        return self.verl_dir / f"global_step_{step}"

    def best_shards(self, step: int) -> Path:
        """Return the folder of the weights of `step`, when best, as verl saved them."""
        return self.checkpoint_dir / f"best-{step}.shards"

    def _read_terms(self, attempt: Attempt) -> None:
        for file in attempt.terms.glob("*.jsonl"):  # an answer's terms are written before the answer
            for line in whole_lines(file, self._terms_read[file]):
                self._terms_read[file] += len(line)
                terms = json.loads(line)
                self._terms[terms.pop(ANSWER_ID)] = terms

    def _scored_groups(self, answers: Sequence[Mapping[str, Any]]) -> list[list[dict[str, float]]]:
        """Return the terms of a step's answers by prompt. Raises KeyError: a crash lost some."""
        ids = _answer_ids(answers)
        groups: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for answer_id in ids:
            groups[answer_id.partition("_")[0]].append(self._terms[answer_id])
        for answer_id in ids:
            del self._terms[answer_id]
        return list(groups.values())

    def _keep_weights(self) -> None:
        """Copy the weights of the present step's checkpoint out of verl's folder."""
        others, step = shutil.ignore_patterns("optim_*", "extra_state_*"), self.progress.step
        with atomic_folder(self.best_shards(step)) as folder:
            shutil.copytree(self.checkpoint(step) / "actor", folder, ignore=others, dirs_exist_ok=True)

    def _save(self) -> None:
        """Write the progress, then remove all weights but the latest and the best."""
        write_json(self.checkpoint_dir / "progress.json", self.progress.state_dict())
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


def _answer_ids(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    uids = [answer["uid"] for answer in answers if not answer["uid"].startswith(PADDING)]
    return [uid.rpartition("_")[0] for uid in uids]


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])
