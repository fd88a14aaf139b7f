"""Charts as inline SVG by matplotlib: readable without a network, without scripts and in print."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

Curve = Sequence[float] | Mapping[int, float]
"""A value per step, the first at step 1; or values by their steps."""

_COLOURS = {
    "conventional": "#8c959f",
    "online": "#bf8700",
    "champion": "#8250df",
    "llm": "#0969da",
    "better": "#1a7f37",
    "worse": "#b42318",
    "undecided": "#8c959f",
}
# Text stays text, and equal figures give equal files.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recllm",
    "font.size": 9,
    "font.family": "sans-serif",
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A row of a chart of intervals; `tone` is a key of `_COLOURS`."""

    label: str
    value: float
    low: float
    high: float
    tone: str


def curve(values: Curve) -> str:
    """Return a line chart; values that are not finite are left out."""
    steps = values.items() if isinstance(values, Mapping) else enumerate(values, 1)
    points = [(step, value) for step, value in steps if value is not None and math.isfinite(value)]
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(4.6, 1.9), layout="constrained")
        axes = _axes(figure)
        axes.plot(*zip(*points, strict=True), color=_COLOURS["llm"], marker=".") if points else None
        axes.set_xlabel("step" if points else "no values")
        axes.xaxis.get_major_locator().set_params(integer=True)
        return _svg(figure)


def curves(named: Mapping[str, Curve]) -> dict[str, str]:
    """Return a line chart per name."""
    return {name: curve(values) for name, values in named.items()}


def intervals(marks: Sequence[Mark], *, from_zero: bool = False) -> str:
    """Return a row per mark: a dot with its interval, or a bar from zero."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(8, 0.5 + 0.32 * len(marks)), layout="constrained")
        axes = _axes(figure)
        for row, mark in enumerate(marks):
            colour = _COLOURS[mark.tone]
            spread = [[max(0.0, mark.value - mark.low)], [max(0.0, mark.high - mark.value)]]
            if from_zero:
                axes.barh(row, mark.value, color=colour, height=0.6)
            axes.errorbar(
                mark.value, row, xerr=spread, fmt="none" if from_zero else "o", color=colour,
                ecolor="#1b1f24" if from_zero else colour, capsize=3,
            )  # fmt: skip
        axes.axvline(0, color="#57606a", linewidth=0.8)
        axes.set_yticks(range(len(marks)), [mark.label for mark in marks])
        axes.set_ylim(len(marks) - 0.4, -0.6)  # the first row on top
        return _svg(figure)


def _axes(figure: Figure) -> Any:
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
