"""What an engine tells of its training: figures a step, validations, and where its best models lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

History = dict[str, list[float]]


@dataclass(kw_only=True)
class Progress:
    """`step` optimiser steps are done; step 0 of `validations` is the SFT model."""

    step: int = 0
    history: History = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """Return the step of the best validation; the earliest of equals, so a tie keeps the SFT model."""
        return max(self.validations, key=lambda step: (self.validations[step]["valid_ndcg@10"], -step))

    def add(self, figures: Mapping[str, float]) -> None:
        """Note the figures of one more optimiser step; every step has the same names."""
        self.step += 1
        for name, value in figures.items():
            self.history.setdefault(name, []).append(value)

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


def best_of(place: Path, step: int) -> Path:
    """Return where the model of `step` lies in `place` if it was the best when it was validated."""
    return place / f"best-{step}"
