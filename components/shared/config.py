"""Strict parsing of configuration sections into frozen dataclasses, and back to JSON.

A section travels to its step as one JSON string, because KFP turns nested integers into floats.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from components.shared.errors import ConfigError

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
    """Build `section` (a dataclass) from a mapping; nested dataclasses, tuples and dicts are typed too.

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value the section's own
            `__post_init__` refuses. The message starts with `source` and the dotted key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: expected a mapping of keys, got {_describe(values)}")
    hints = typing.get_type_hints(section)
    fields = {field.name: field for field in dataclasses.fields(section) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise ConfigError(f"{source}: unknown key '{key}'; known keys: {known}")
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in values:
            raise ConfigError(f"{source}: missing key '{name}'")
    converted = {key: _convert(hints[key], value, f"{source}.{key}") for key, value in values.items()}
    try:
        return section(**converted)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = [arg for arg in args if arg is not type(None)]
        return _convert(inner, value, key)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{key}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: expected a list, got {_describe(value)}")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{key}[{i}]") for i, item in enumerate(value))
        if len(args) != len(value):
            raise ConfigError(f"{key}: expected {len(args)} values, got {len(value)}")
        return tuple(
            _convert(a, item, f"{key}[{i}]") for i, (a, item) in enumerate(zip(args, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected a mapping, got {_describe(value)}")
        return {k: _convert(args[1], v, f"{key}.{k}") for k, v in value.items()}
    return _scalar(hint, value, key)


def _scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        remedy = ""
        if hint is float and isinstance(value, str):
            remedy = "; YAML reads 1e-5 as text, write 1.0e-5"
        raise ConfigError(f"{key}: expected {hint.__name__}, got {_describe(value)}{remedy}")
    return value


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"
