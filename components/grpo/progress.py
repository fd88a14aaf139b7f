"""What a training has recorded: figures per step, validations, and where its best models lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from components.shared import logs

History = dict[str, list[float]]

EXAMPLES = 4
"""Validation prompts whose answers are kept for the page."""

log = logs.logger("grpo")


@dataclass(kw_only=True)
class Progress:
    """`step` optimiser steps are done; step 0 of `validations` is the SFT model.

    `answers` are those to the first EXAMPLES validation prompts, of step 0 and of the best step.
    """

    step: int = 0
    history: History = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    answers: dict[int, list[str]] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """Return the step of the best validation; the earliest on a tie (0: SFT model).

        Validations without a reward are compared by NDCG@10: it alone would never choose a business term.
        """
        figures = self.validations
        return max(figures, key=lambda n: (figures[n].get("valid_reward", figures[n]["valid_ndcg@10"]), -n))

    def add_step(self, figures: Mapping[str, float]) -> None:
        """Add the figures of one more optimiser step; every step has the same names."""
        self.step += 1
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)

    def add_validation(self, figures: Mapping[str, float], answers: Sequence[str]) -> None:
        """Add the validation of the model after `step`; `answers` are in prompt order."""
        self.validations[self.step] = dict(figures)
        self.answers[self.step] = list(answers[:EXAMPLES])
        self.answers = {step: texts for step, texts in self.answers.items() if step in (0, self.best_step)}

    def until(self, step: int) -> "Progress":
        """Return the progress as it was after `step`."""
        return Progress(
            step=step,
            history={name: values[:step] for name, values in self.history.items()},
            validations={n: figures for n, figures in self.validations.items() if n <= step},
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
            name: {int(n): value for n, value in state[name].items()} for name in ("validations", "answers")
        }
        return Progress(step=state["step"], history=dict(state["history"]), **by_step)


def best_checkpoint(checkpoint_dir: Path, step: int) -> Path:
    """Return the folder of the model of `step`, the best when it was validated."""
    return checkpoint_dir / f"best-{step}"
