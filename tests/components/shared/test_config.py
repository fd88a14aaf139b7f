"""Strict parsing: what is accepted, and that every refusal names the key."""

import math
from dataclasses import field
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt

from components.shared.config import from_mapping, parse, strict, to_parameter
from components.shared.errors import ConfigError


@strict
class Inner:
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


@strict
class Outer:
    rate: float
    name: str = "a"
    flag: bool = False
    mode: Literal["x", "y"] = "x"
    sizes: tuple[int, ...] = ()
    some: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    maybe: float | None = None
    latest: PositiveInt | Literal["all"] = "all"
    other: dict[str, Any] = field(default_factory=dict)


@strict
class Pair:
    a: int = 1
    b: int = 1


@strict
class Nest:
    pair: Pair = field(default_factory=lambda: Pair(a=2, b=2))


@strict
class Nests:
    nest: Nest = field(default_factory=lambda: Nest(pair=Pair(a=3, b=3)))


def test_what_a_section_leaves_out_is_its_fields_own_default() -> None:
    assert from_mapping(Nest, {"pair": {"a": 5}}, "p").pair == Pair(a=5, b=2)
    assert from_mapping(Nests, {"nest": {"pair": {"a": 5}}}, "p").nest.pair == Pair(a=5, b=3)
    assert from_mapping(Nests, {"nest": {}}, "p").nest.pair == Pair(a=3, b=3)


def as_kfp_delivers(value: Any) -> Any:
    """What a parameter of type dict is after its way through KFP: every number a float."""
    if isinstance(value, dict):
        return {name: as_kfp_delivers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_kfp_delivers(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_round_trip_through_a_parameter() -> None:
    outer = Outer(rate=0.5, sizes=(1, 2), weights={"a": 1.0}, inner=Inner(size=3), maybe=2.0, latest=3)
    assert parse(Outer, to_parameter(outer)) == outer
    assert parse(Outer, as_kfp_delivers(to_parameter(outer))) == outer


def test_whole_numbers_are_accepted_where_a_float_is_expected() -> None:
    assert from_mapping(Outer, {"rate": 1, "weights": {"a": 2}}, "p").weights == {"a": 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({}, "p: missing key 'rate'", id="missing key"),
        pytest.param(
            {"rate": 1.0, "rat": 2}, "p: unknown key 'rat'; known keys: flag, inner", id="unknown key"
        ),
        pytest.param({"rate": "1e-5"}, r"p.rate: expected float, got str '1e-5'; YAML reads 1e-5", id="1e-5"),
        pytest.param({"rate": 1.0, "flag": 1}, "p.flag: expected bool, got int 1", id="int for bool"),
        pytest.param({"rate": True}, "p.rate: expected float, got bool True", id="bool for float"),
        pytest.param({"rate": 1.0, "mode": "z"}, "p.mode: 'z' is not one of 'x' or 'y'", id="not a choice"),
        pytest.param({"rate": 1.0, "latest": 0}, "p.latest: must be above 0, got 0\n", id="number or word"),
        pytest.param({"rate": 1.0, "latest": "last"}, "p.latest: 'last' is not one of", id="no such word"),
        pytest.param({"rate": 1.0, "sizes": [1, "b"]}, r"p.sizes\[1\]: expected int", id="list element"),
        pytest.param({"rate": 1.0, "inner": {"size": 0}}, "p.inner: size must be at least 1", id="own check"),
        pytest.param({"rate": 1.0, "weights": {1: 1.0}}, "p.weights: expected text", id="number as key"),
        pytest.param({"rate": 1.0, "other": {"a": date(2026, 1, 1)}}, "p.other.a: date", id="date"),
        pytest.param({"rate": 1.0, "other": {"a": [math.nan]}}, r"p.other.a\[0\]: nan", id="nan"),
        pytest.param({"rate": 10**400}, r"p.rate: 1000\d* is not a finite number", id="400 digits"),
        pytest.param({"rate": 1.0, "inner": [1]}, "p.inner: expected a mapping of keys", id="not a mapping"),
    ],
)
def test_refusals_name_the_key(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, values, "p")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"rate": 1.0, "some": ["x"]}, "p.some[0]: expected int, got str 'x'", id="not also too few"
        ),
        pytest.param({"rate": "fast"}, "p.rate: expected float, got str 'fast'", id="text is no number"),
    ],
)
def test_a_fault_is_one_line_without_false_hints(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_mapping(Outer, values, "p")
    assert str(refused.value) == message
