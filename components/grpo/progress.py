"""What a training has recorded: figures per step, validations, and where its best models lie."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from components.shared import logs
from components.shared.metrics import mean

History = dict[str, list[float]]

EXAMPLES = 4
"""Validation prompts whose answers are kept for the page."""

log = logs.logger("grpo")


@dataclass(kw_only=True)
class Progress:
    """`step` optimiser steps are done; step 0 of `validations` is the SFT model.

    `chosen_by` has of each validation the figure per prompt that the best step is chosen by. `answers` are
    those to the first EXAMPLES validation prompts, of step 0 and of the best step.
    """

    step: int = 0
    history: History = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    chosen_by: dict[int, list[float]] = field(default_factory=dict)
    answers: dict[int, list[str]] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """Return the best validation's step, or 0 if no gain exceeds its error.

        Gains are over the SFT model, step 0, prompt by prompt; their error is the standard error of the mean.
        On a few dozen prompts the best of several steps is mostly chance. Of equals the earliest.
        """
        gains = {step: self._gain(step) for step in self.chosen_by}
        # If a single prompt gained, the mean gain equals its standard error: rounding must not decide.
        real = {step: gain for step, (gain, error) in gains.items() if gain - error > 1e-9}
        return max(real, key=lambda step: (real[step], -step), default=0)

    @property
    def kept(self) -> str:
        """Return which model is kept, and the gain that decided it."""
        if best := self.best_step:
            return f"step {best}, which gained {self._gain_text(best)}"
        trained = [step for step in self.chosen_by if step]
        if not trained:
            return "the SFT model"
        most = max(trained, key=lambda step: self._gain(step)[0])
        return f"the SFT model: the most that a step gained is {self._gain_text(most)}"

    def _gain_text(self, step: int) -> str:
        gain, error = self._gain(step)
        return f"{gain:+.4f} on validation with a standard error of {error:.4f}"

    def _gain(self, step: int) -> tuple[float, float]:
        """Return the mean gain of `step` over step 0, and its standard error."""
        pairs = zip(self.chosen_by[step], self.chosen_by[0], strict=True)
        gains = [after - before for after, before in pairs]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        return mean(gains), error

    def add_step(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one more optimiser step; every step has the same names."""
        self.step += 1
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)

    def add_validation(self, scores: Mapping[str, Sequence[float]], answers: Sequence[str]) -> None:
        """Add the validation of the model after `step`: `validation_scores` and answers in prompt order."""
        self.validations[self.step] = {name: mean(values) for name, values in scores.items()}
        # Business terms have no influence on NDCG@10, so it alone would never choose them.
        self.chosen_by[self.step] = list(scores.get("valid_reward", scores["valid_ndcg@10"]))
        self.answers[self.step] = list(answers[:EXAMPLES])
        self.answers = {step: texts for step, texts in self.answers.items() if step in (0, self.best_step)}

    def until(self, step: int) -> "Progress":
        """Return the progress as it was after `step`."""
        return Progress(
            step=step,
            history={name: values[:step] for name, values in self.history.items()},
            validations={n: figures for n, figures in self.validations.items() if n <= step},
            chosen_by={n: values for n, values in self.chosen_by.items() if n <= step},
            answers={n: texts for n, texts in self.answers.items() if n <= step},
        )

    def log_step(self, steps: int) -> None:
        """Log the latest of `steps` steps with its figures."""
        figures = {name: values[-1] for name, values in self.history.items()}
        details = [f"{name} {figures[name]:.3f}" for name in ("reward", "lcs", "kl") if name in figures]
        if "seconds" in figures:
            details.append(f"{figures['seconds']:.1f} s")
        if validation := self.validations.get(self.step):
            details.append(f"validation NDCG@10 {validation['valid_ndcg@10']:.4f}")
            details.append(f"valid {validation['valid_share']:.0%}")
        logs.progress(log, self.step, steps, ", ".join(details))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which `from_state` makes an equal progress."""
        return {field.name: getattr(self, field.name) for field in fields(Progress)}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "Progress":
        """Return the progress of a `state_dict`, also one from JSON (keys are text)."""
        by_step = {
            name: {int(n): value for n, value in state[name].items()}
            for name in ("validations", "chosen_by", "answers")
        }
        return Progress(step=state["step"], history=dict(state["history"]), **by_step)


def best_checkpoint(checkpoint_dir: Path, step: int) -> Path:
    """Return the folder of the model of `step`, the best when it was validated."""
    return checkpoint_dir / f"best-{step}"
