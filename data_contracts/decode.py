"""Strict decoding of JSON and YAML values into frozen dataclasses: every refusal names the key."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def decode(kind: type[T], values: Any, source: str) -> T:
    """Build `kind` (a dataclass) from a mapping; nested dataclasses, tuples and dicts are typed too.

    Raises:
        ValueError: unknown key, missing key, wrong type, or a value that a dataclass's own
            `__post_init__` refuses. The message starts with `source` and the dotted key.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{source}: expected a mapping of keys, got {_describe(values)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ValueError(f"{source}: unknown key '{key}'; known keys: {', '.join(sorted(fields))}")
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in values:
            raise ValueError(f"{source}: missing key '{name}'")
    converted = {key: _convert(hints[key], value, f"{source}.{key}") for key, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _convert(hint: Any, value: Any, key: str) -> Any:
    if hint is Any:
        return _json(value, key)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = [arg for arg in args if arg is not type(None)]
        return _convert(inner, value, key)
    if origin is typing.Literal:
        if value not in args:
            raise ValueError(f"{key}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return decode(hint, value, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{key}: expected a list, got {_describe(value)}")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{key}[{i}]") for i, item in enumerate(value))
        if len(args) != len(value):
            raise ValueError(f"{key}: expected {len(args)} values, got {len(value)}")
        return tuple(
            _convert(a, item, f"{key}[{i}]") for i, (a, item) in enumerate(zip(args, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{key}: expected a mapping, got {_describe(value)}")
        return {_name(k, key): _convert(args[1], v, f"{key}.{k}") for k, v in value.items()}
    return _scalar(hint, value, key)


def _scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError(f"{key}: the number has too many digits") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: {value} is not a finite number")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        remedy = ""
        if hint is float and isinstance(value, str):
            remedy = "; YAML reads 1e-5 as text, write 1.0e-5"
        raise ValueError(f"{key}: expected {hint.__name__}, got {_describe(value)}{remedy}")
    return value


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected text as a key, got {_describe(value)}; put it in quotes")
    return value


def _json(value: Any, key: str) -> Any:
    """Return `value` as it is if JSON has it: what YAML reads as a date, for one, it has not."""
    if isinstance(value, Mapping):
        return {_name(k, key): _json(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item, f"{key}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: {value} is not a finite number")
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{key}: {_describe(value)} is no JSON value; put it in quotes")
    return value


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"
