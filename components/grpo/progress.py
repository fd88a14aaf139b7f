"""What an engine tells of its training: figures a step, validations, and where its best models lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

History = dict[str, list[float]]

EXAMPLES = 4
"""Validation prompts whose answers are kept for people to read."""


@dataclass(kw_only=True)
class Progress:
    """`step` optimiser steps are done; step 0 of `validations` is the SFT model.

    `answers` are those to the first EXAMPLES validation prompts, of step 0 and of the best.
    """

    step: int = 0
    history: History = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)
    answers: dict[int, list[str]] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """Return the step of the best validation; the earliest of equals, so a tie keeps the SFT model."""
        return max(self.validations, key=lambda step: (self.validations[step]["valid_ndcg@10"], -step))

    def add(self, figures: Mapping[str, float]) -> None:
        """Note the figures of one more optimiser step; every step has the same names."""
        self.step += 1
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)

    def validated(self, figures: Mapping[str, float], answers: Sequence[str]) -> None:
        """Note what validation says of the model after `step`, in the order of the validation prompts."""
        self.validations[self.step] = dict(figures)
        self.answers[self.step] = list(answers[:EXAMPLES])
        self.answers = {n: texts for n, texts in self.answers.items() if n in (0, self.best_step)}

    def cut(self, step: int) -> "Progress":
        """Return what was known after `step`."""
        return Progress(
            step=step,
            history={name: values[:step] for name, values in self.history.items()},
            validations={n: figures for n, figures in self.validations.items() if n <= step},
            answers={n: texts for n, texts in self.answers.items() if n <= step},
        )

    def say(self, steps: int) -> None:
        """Print where the training is, of `steps` steps."""
        line = f"grpo: step {self.step}/{steps}"
        if self.history:
            line += "".join(f", {n} {self.history[n][-1]:.3f}" for n in ("reward", "lcs", "kl"))
            line += f", {self.history['seconds'][-1]:.1f} s"
        if self.step in self.validations:
            figures = self.validations[self.step]
            line += f" | validation NDCG@10 {figures['valid_ndcg@10']:.4f}"
            line += f", valid {figures['valid_share']:.0%}"
        print(line, flush=True)


def state_of(progress: Progress) -> dict[str, Any]:
    """Return what `progress_of` reads, as plain values."""
    return {field.name: getattr(progress, field.name) for field in fields(Progress)}


def progress_of(state: Mapping[str, Any]) -> Progress:
    """Return the progress that `state_of` told; JSON makes text of steps, so they are numbers again."""
    told = {name: {int(n): v for n, v in state[name].items()} for name in ("validations", "answers")}
    return Progress(step=state["step"], history=dict(state["history"]), **told)


def best_of(place: Path, step: int) -> Path:
    """Return where the model of `step` lies in `place` if it was the best when it was validated."""
    return place / f"best-{step}"
