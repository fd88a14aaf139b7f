"""Training curves as one self-contained HTML page of inline SVG, readable without a network."""

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.shared.artifacts.outputs import write_text

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 460, 180, 68, 24
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;color:#1b1f24;margin:24px}"
    "h1{font-size:20px}figure{display:inline-block;margin:0 24px 24px 0}"
    "figcaption{font-weight:600}pre{white-space:pre-wrap}text{font-size:11px;fill:#57606a}"
)


Curve = Sequence[float] | Mapping[int, float]
"""A value a step, the first at step 1; or values by their steps."""


def write(path: Path, title: str, curves: Mapping[str, Curve], notes: str = "", below: str = "") -> None:
    """Write a page with a plot for each named curve.

    `notes` and `below` are HTML above and below the plots.
    """
    figures = "".join(_figure(name, values) for name, values in curves.items())
    write_text(
        path,
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{notes}{figures}{below}</html>\n",
    )


def _figure(name: str, curve: Curve) -> str:
    steps = curve.items() if isinstance(curve, Mapping) else enumerate(curve, 1)
    points = [(step, value) for step, value in steps if value is not None and math.isfinite(value)]
    if not points:
        return f"<figure><figcaption>{html.escape(name)}</figcaption>no values</figure>"
    low, high = min(v for _, v in points), max(v for _, v in points)
    first, last = points[0][0], points[-1][0]

    def place(step: int, value: float) -> str:
        x = _LEFT + (step - first) / max(last - first, 1) * (_WIDTH - _LEFT - 8)
        share = (high - value) / (high - low) if high > low else 0.5
        y = 8 + share * (_HEIGHT - _BOTTOM - 16)
        return f"{x:.1f},{y:.1f}"

    line = " ".join(place(step, value) for step, value in points)
    dots = "".join(
        '<circle r="2" fill="#0969da" cx="{}" cy="{}"/>'.format(*place(*p).split(",")) for p in points
    )
    base = _HEIGHT - _BOTTOM
    return (
        f"<figure><figcaption>{html.escape(name)}</figcaption>"
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f'<path d="M{_LEFT} 4V{base}H{_WIDTH}" fill="none" stroke="#d0d7de"/>'
        f'<polyline points="{line}" fill="none" stroke="#0969da" stroke-width="1.5"/>{dots}'
        f'<text x="{_LEFT - 6}" y="14" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{base - 4}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_LEFT}" y="{base + 16}">{first}</text>'
        f'<text x="{_WIDTH - 8}" y="{base + 16}" text-anchor="end">step {last}</text></svg></figure>'
    )
