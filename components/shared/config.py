"""Strict parsing of configuration sections into frozen dataclasses, and back to JSON.

A section travels to its step as one JSON string, because KFP turns nested integers into floats.
"""

import dataclasses
import json
from typing import Any, TypeVar

from components.shared.errors import ConfigError
from data_contracts.decode import decode

T = TypeVar("T")


def parse(section: type[T], text: str, source: str = "config") -> T:
    """Parse the JSON text of one section. Raises ConfigError naming `source` and the key."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}: not valid JSON ({error})") from error
    return from_mapping(section, values, source)


def to_json(section: Any) -> str:
    """Return the section as JSON with sorted keys, so equal sections give equal text (cache keys)."""
    return json.dumps(dataclasses.asdict(section), sort_keys=True)


def from_mapping(section: type[T], values: Any, source: str) -> T:
    """Build `section` (a dataclass) from a mapping, strictly.

    Raises:
        ConfigError: what `data_contracts.decode` refuses; the message starts with `source` and the key.
    """
    try:
        return decode(section, values, source)
    except ValueError as error:
        raise ConfigError(str(error)) from error
