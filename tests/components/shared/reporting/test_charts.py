"""Charts: valid SVG of equal bytes for equal figures, without what cannot be drawn."""

import itertools
import math
import xml.etree.ElementTree as ET

import pytest

from components.shared.reporting import charts
from components.shared.reporting.charts import Dot, Mark

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_curve_of_values_starts_at_step_one() -> None:
    svg = charts.curve([0.5, 0.25, 0.125])
    assert {"1", "2", "3", "step"} <= set(texts(svg))
    assert svg == charts.curve({1: 0.5, 2: 0.25, 3: 0.125})


@pytest.mark.parametrize("hole", [math.nan, math.inf, None])
def test_what_is_not_finite_is_left_out(hole: float) -> None:
    assert charts.curve({1: 0.5, 2: hole, 4: 0.25}) == charts.curve({1: 0.5, 4: 0.25})


@pytest.mark.parametrize("values", [[], {}, [math.nan]])
def test_without_values_it_says_so(values) -> None:
    assert "no values" in texts(charts.curve(values))


def test_curves_keep_their_names() -> None:
    assert charts.curves({"loss": [1.0], "kl": {3: 2.0}}) == {
        "loss": charts.curve([1.0]),
        "kl": charts.curve({3: 2.0}),
    }


@pytest.mark.parametrize("from_zero", [True, False])
def test_intervals_have_a_row_per_mark_in_their_order(from_zero: bool) -> None:
    marks = [
        Mark(label="candidates & <order>", value=0.1, low=0.05, high=0.15, tone="conventional"),
        Mark(label="grpo", value=-0.2, low=-0.3, high=-0.2, tone="llm"),
    ]
    svg = charts.intervals(marks, from_zero=from_zero)
    labels = [text for text in texts(svg) if text in {mark.label for mark in marks}]
    assert labels == ["candidates & <order>", "grpo"]
    assert charts.intervals(marks, from_zero=from_zero) == svg


def test_lines_and_dots_name_each_thing_once_and_no_name_covers_another() -> None:
    names = [f"model & <{n}>" for n in range(14)]
    lines = charts.lines({name: ([0.1, 0.2, 0.3], "llm") for name in names[:4]}, "K")
    dots = charts.dots([Dot(label=name, x=0.5, y=0.2, tone="conventional") for name in names], "x", "y")
    for svg, shown in ((lines, names[:4]), (dots, names)):
        found = [e for e in ET.fromstring(svg).iter(f"{SVG}text") if e.text in shown]
        assert sorted(e.text for e in found) == sorted(shown)
        heights = sorted(float(e.attrib["y"]) for e in found)
        assert min(b - a for a, b in itertools.pairwise(heights)) > 9, "points of the font"


def test_dollar_signs_in_labels_are_no_formula() -> None:
    marks = [Mark(label=label, value=0.5, low=0.4, high=0.6, tone="llm") for label in ("tier $$", "$50k_$")]
    assert {"tier $$", "$50k_$"} <= set(texts(charts.intervals(marks, from_zero=True)))
