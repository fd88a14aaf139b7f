"""Configuration sections: strict dataclasses, read from YAML or JSON, written as JSON.

A section travels to its step as one JSON string, because KFP turns nested integers into floats.
"""

import dataclasses
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from components.shared.errors import ConfigError
from data_contracts.strict import decode, strict

__all__ = ["Dtype", "Fraction", "Seed", "Share", "from_mapping", "parse", "strict", "to_json"]

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Dtype = Literal["auto", "float32", "bfloat16"]
"""Compute dtype; "auto" is bfloat16 where it is faster than float32."""


def parse(section: type[T], text: str, source: str = "config") -> T:
    """Return the section in the JSON `text`. Raises ConfigError naming `source` and the key."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}: not valid JSON ({error})") from error
    return from_mapping(section, values, source)


def to_json(section: Any) -> str:
    """Return the section as JSON with sorted keys, so equal sections give equal text (cache keys)."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)


def from_mapping(section: type[T], values: Any, source: str) -> T:
    """Return the section built from a mapping. Raises ConfigError naming `source` and the key."""
    try:
        return decode(section, values, source)
    except ValueError as error:
        raise ConfigError(str(error)) from error
