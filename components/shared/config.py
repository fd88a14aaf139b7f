"""Configuration sections: strict dataclasses, read from YAML or JSON, written as JSON.

A section travels to its step as one JSON string, because KFP turns nested integers into floats.
"""

import dataclasses
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from components.shared.errors import ConfigError, faults_as
from data_contracts.strict import decode, decode_json, strict

__all__ = ["Dtype", "Fraction", "Seed", "Share", "from_mapping", "parse", "strict", "to_json"]

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dtype = Literal["auto", "float32", "bfloat16"]
"""Compute dtype; "auto" is bfloat16 where it is faster than float32."""


def parse(section: type[T], text: str, source: str = "config") -> T:
    """Return the section in the JSON `text`. Raises ConfigError naming `source` and the key."""
    with faults_as(ConfigError):
        return decode_json(section, text, source)


def to_json(section: Any) -> str:
    """Return the section as JSON with sorted keys: equal sections give equal cache keys."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)


def from_mapping(section: type[T], values: Any, source: str) -> T:
    """Return the section built from a mapping. Raises ConfigError naming `source` and the key."""
    with faults_as(ConfigError):
        return decode(section, values, source)
