"""Two charts as inline SVG, readable without a network, without scripts and in print."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from data_contracts.evaluation import Interval

_WIDTH, _LABELS, _FIGURES, _ROW, _AXIS = 800, 170, 190, 30, 24
_PLOT = _WIDTH - _LABELS - _FIGURES


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One row of a chart: a value with its interval; `tone` is a CSS class that colours it."""

    label: str
    value: float
    interval: Interval
    tone: str


def bars(title: str, marks: Sequence[Mark]) -> str:
    """Return horizontal bars from zero, each with a whisker over its interval."""
    scale = _Scale(0.0, max([mark.interval.high for mark in marks] + [mark.value for mark in marks]))
    rows = []
    for number, mark in enumerate(marks):
        middle = _middle(number)
        rows.append(
            f'<rect class="{mark.tone}" x="{_LABELS}" y="{middle - 9}" rx="2" height="18" '
            f'width="{max(scale(mark.value) - _LABELS, 1):.1f}"/>'
            + _whisker(scale, mark, middle)
            + _texts(mark, middle, f"{mark.value:.4f}")
        )
    return _chart(title, scale, rows)


def forest(title: str, marks: Sequence[Mark]) -> str:
    """Return dots with whiskers around a line at zero: differences and their intervals."""
    edges = [0.0, *(mark.interval.low for mark in marks), *(mark.interval.high for mark in marks)]
    scale = _Scale(min(edges), max(edges))
    bottom = len(marks) * _ROW + 4
    zero = f'<path class="zero" d="M{scale(0.0):.1f} 0V{bottom}"/>'
    rows = [zero]
    for number, mark in enumerate(marks):
        middle = _middle(number)
        dot = f'<circle class="{mark.tone}" r="5" cx="{scale(mark.value):.1f}" cy="{middle}"/>'
        rows.append(_whisker(scale, mark, middle) + dot + _texts(mark, middle, f"{mark.value:+.4f}"))
    return _chart(title, scale, rows, len(marks))


class _Scale:
    """Maps values to x positions; the range is widened to round ticks."""

    def __init__(self, low: float, high: float) -> None:
        self.step = _round_step((high - low) or 1.0)
        self.first = math.floor(low / self.step + 1e-9)
        self.last = max(math.ceil(high / self.step - 1e-9), self.first + 1)

    def __call__(self, value: float) -> float:
        share = (value / self.step - self.first) / (self.last - self.first)
        return _LABELS + min(max(share, 0.0), 1.0) * _PLOT

    def ticks(self) -> list[float]:
        return [self.step * i for i in range(self.first, self.last + 1)]


def _round_step(span: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that about five steps cover `span`."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / 5 - 1e-12)


def _middle(number: int) -> int:
    return number * _ROW + _ROW // 2 + 2


def _whisker(scale: _Scale, mark: Mark, middle: int) -> str:
    low, high = scale(mark.interval.low), scale(mark.interval.high)
    ends = f"M{low:.1f} {middle - 5}v10M{high:.1f} {middle - 5}v10"
    return f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}{ends}"/>'


def _texts(mark: Mark, middle: int, figure: str) -> str:
    interval = f"[{mark.interval.low:.3f}, {mark.interval.high:.3f}]"
    return (
        f'<text x="{_LABELS - 10}" y="{middle + 4}" text-anchor="end">{html.escape(mark.label)}</text>'
        f'<text x="{_WIDTH - _FIGURES + 16}" y="{middle + 4}"><tspan class="figure">{figure}</tspan> '
        f'<tspan class="faint">{interval}</tspan></text>'
    )


def _chart(title: str, scale: _Scale, rows: Sequence[str], count: int | None = None) -> str:
    bottom = (len(rows) if count is None else count) * _ROW + 4
    digits = max(0, -math.floor(math.log10(scale.step) + 1e-9))
    grid = "".join(
        f'<path class="grid" d="M{scale(tick):.1f} 0V{bottom}"/>'
        f'<text class="faint" x="{scale(tick):.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"{tick:.{digits}f}</text>"
        for tick in scale.ticks()
    )
    box = f'viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" aria-label="{html.escape(title)}"'
    return f'<div class="scroll"><svg {box}>{grid}{"".join(rows)}</svg></div>'
