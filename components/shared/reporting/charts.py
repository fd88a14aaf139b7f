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
    "online": "#bc4c00",
    "champion": "#8250df",
    "llm": "#0969da",
    "order": "#bf8700",
    "better": "#1a7f37",
    "worse": "#b42318",
    "undecided": "#8c959f",
}
_WIDTH = 5.4
"""Inches of a chart: two stand side by side on a screen, and a phone can still show the text."""

# Text stays text, and equal figures give equal files.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recllm",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.parse_math": False,  # a user's city_tier may hold dollar signs
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A row of a chart of intervals; `tone` is a key of `_COLOURS`."""

    label: str
    value: float
    low: float
    high: float
    tone: str


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A dot of a chart of dots; `tone` is a key of `_COLOURS`."""

    label: str
    x: float
    y: float
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
        figure = Figure(figsize=(_WIDTH, 0.5 + 0.32 * len(marks)), layout="constrained")
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
        axes.locator_params(axis="x", nbins=6)
        axes.set_yticks(range(len(marks)), [mark.label for mark in marks])
        axes.set_ylim(len(marks) - 0.4, -0.6)  # the first row on top
        return _svg(figure)


def lines(named: Mapping[str, tuple[Sequence[float], str]], x: str) -> str:
    """Return a line over 1, 2, … per name, by values and tone."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
        axes = _axes(figure)
        for values, tone in named.values():
            axes.plot(range(1, len(values) + 1), values, color=_COLOURS[tone], marker=".")
        axes.set_xlabel(x)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _label(axes, [(name, len(values), values[-1], tone) for name, (values, tone) in named.items()])
        return _svg(figure)


def dots(found: Sequence[Dot], x: str, y: str) -> str:
    """Return a chart of labelled dots."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH, max(2.8, 0.8 + 0.19 * len(found))), layout="constrained")
        axes = _axes(figure)
        for dot in found:
            axes.plot(dot.x, dot.y, "o", color=_COLOURS[dot.tone])
        axes.set(xlabel=x, ylabel=y)
        axes.margins(0.08)
        _label(axes, [(dot.label, dot.x, dot.y, dot.tone) for dot in found])
        return _svg(figure)


def _label(axes: Any, points: Sequence[tuple[str, float, float, str]]) -> None:
    """Name each point (name, x, y, tone) right of the axes, one a line."""
    low, high = axes.get_ylim()
    line = 0.19 * (high - low) / (axes.figure.get_figheight() - 0.8)
    height = low
    ordered = sorted(points, key=lambda point: point[2])
    for left, (name, x, y, tone) in zip(range(len(points), 0, -1), ordered, strict=True):
        height = min(max(height, y), high - line * (left - 1))  # room for those above
        axes.annotate(
            name, (x, y), (1.04, height), textcoords=axes.get_yaxis_transform(),
            va="center",
            color=_COLOURS[tone], arrowprops={"arrowstyle": "-", "color": "#d0d7de", "linewidth": 0.7},
        )  # fmt: skip
        height += line


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
