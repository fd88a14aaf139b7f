"""Configuration sections: strict dataclasses, read from YAML or JSON, written as JSON.

A section travels to its step as a KFP parameter of type dict, whose numbers are all floats.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from components.shared.errors import ConfigError, faults_as
from data_contracts.strict import decode, strict

__all__ = [
    "Answers",
    "Dtype",
    "Fraction",
    "Seed",
    "Share",
    "from_mapping",
    "parse",
    "strict",
    "to_json",
    "to_parameter",
]

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Answers = Literal["generate", "label_logits", "title_likelihood"]
"""How a model answers: it writes reasons, then numbers; or it scores each candidate."""
Dtype = Literal["auto", "float32", "bfloat16"]
"""Compute dtype; "auto" is bfloat16 where it is faster than float32."""


def parse(section: type[T], parameter: Mapping[str, Any], source: str = "config") -> T:
    """Return the section in the KFP `parameter`. Raises ConfigError naming `source` and the key."""
    return from_mapping(section, _with_integers(parameter), source)


def to_parameter(section: Any) -> dict[str, Any]:
    """Return the section as a KFP parameter, keys sorted: equal sections give equal cache keys.

    Keys that are None are left out, since KFP refuses null; None has to be their default.
    """
    return json.loads(to_json(section), object_hook=_without_nulls)


def _without_nulls(mapping: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if value is not None}


def _with_integers(value: Any) -> Any:
    """Return `value` with whole floats as integers, which a float key accepts as well."""
    if isinstance(value, Mapping):
        return {name: _with_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_json(section: Any) -> str:
    """Return the section as JSON with sorted keys: equal sections give equal cache keys."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)


def from_mapping(section: type[T], values: Any, source: str) -> T:
    """Return the section built from a mapping. Raises ConfigError naming `source` and the key."""
    with faults_as(ConfigError):
        return decode(section, values, source)
