"""Strict dataclasses by pydantic: an unknown key or a wrong type is refused, naming the key."""

import functools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, field, fields, is_dataclass
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

T = TypeVar("T")

_SETTINGS = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

_MESSAGES = {
    "greater_than_equal": "must be at least {ge}, got {input}",
    "greater_than": "must be above {gt}, got {input}",
    "less_than_equal": "must be at most {le}, got {input}",
    "less_than": "must be below {lt}, got {input}",
    "finite_number": "{input} is not a finite number",
    "literal_error": "{input!r} is not one of {expected}",
    "too_short": "needs at least {min_length} item(s), got {input}",
    "int_type": "expected int, got {got}",
    "float_type": "expected float, got {got}",
    "bool_type": "expected bool, got {got}",
    "string_type": "expected text, got {got}",
    "tuple_type": "expected a list, got {got}",
    "dict_type": "expected a mapping, got {got}",
    "dataclass_type": "expected a mapping of keys, got {got}",
}

_MEMBER = re.compile(r"(constrained-)?int|literal\[.*\]")
"""How pydantic names the member of a union in the place of a key."""

_LONGEST, _MOST = 200, 20
"""Characters of a refused value that a message shows, and faults that it names."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def strict(cls: type[T]) -> type[T]:
    """Return `cls` as a frozen, keyword-only dataclass whose values are checked by their types."""
    return dataclass(cls, frozen=True, kw_only=True, config=_SETTINGS)  # type: ignore[return-value]


def decode(kind: type[T], values: Any, source: str) -> T:
    """Return the strict dataclass `kind` built from the JSON or YAML mapping `values`.

    Raises: ValueError with one line per fault, each beginning with `source` and the dotted key.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{source}: expected a mapping of keys, got {_described(values)}")
    _check_json(values, source)
    try:
        return _adapter(kind).validate_json(json.dumps(_filled(values, kind)))  # type: ignore[arg-type]
    except ValidationError as error:
        faults = _without_consequences(error.errors())
        lines = [_message(kind, fault, source) for fault in faults[:_MOST]]
        if more := len(faults) - len(lines):
            lines.append(f"{source}: and {more:,} more")
        raise ValueError("\n".join(lines)) from error


def decode_json(kind: type[T], text: str, source: str) -> T:
    """Return the `kind` in the JSON `text`. Raises as `decode`."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{source}: not valid JSON ({error})") from error
    return decode(kind, values, source)


def _filled(values: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """Return `values`, their sections filled from `default`, a class or an instance.

    A field's default may differ from that of its class: pydantic alone would take the class's.
    """
    filled: dict[str, Any] = {} if isinstance(default, type) else asdict(default)
    own = _defaults(default) if isinstance(default, type) else vars(default)
    for name, value in values.items():
        inner = own.get(name)
        is_section = isinstance(value, Mapping) and is_dataclass(inner)
        filled[name] = _filled(value, inner) if is_section else value
    return filled


@functools.cache
def _defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of the fields of `kind`."""
    made = {key.name: key.default_factory() for key in fields(kind) if key.default_factory is not MISSING}
    return made | {key.name: key.default for key in fields(kind) if key.default is not MISSING}


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _without_consequences(faults: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return the faults without those of values that hold another fault.

    A list whose only item is refused would also have too few items.
    """
    parents = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["loc"] not in parents]


def _message(kind: Any, fault: ErrorDetails, source: str) -> str:
    *parents, last = fault["loc"] or ("",)
    if fault["type"] == "unexpected_keyword_argument":
        known = ", ".join(sorted(_fields_at(kind, parents)))
        return f"{_key(source, parents)}: unknown key '{last}'; known keys: {known}"
    if fault["type"] == "missing":
        return f"{_key(source, parents)}: missing key '{last}'"
    context = fault.get("ctx", {})
    if fault["type"] == "value_error":
        text = str(context["error"])
    elif template := _MESSAGES.get(fault["type"]):
        text = template.format(**context, input=fault["input"], got=_described(fault["input"]))
    else:
        text = f"{fault['msg']}, got {_described(fault['input'])}"
    if fault["type"] == "float_type" and _is_number(fault["input"]):
        text += "; YAML reads 1e-5 as text, write 1.0e-5"
    return f"{_key(source, fault['loc'])}: {text}"


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False


def _key(source: str, location: Any) -> str:
    keys = (part for part in location if isinstance(part, int) or not _MEMBER.fullmatch(part))
    return source + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)


def _fields_at(kind: Any, location: Any) -> list[str]:
    """Return the field names of the dataclass that `location` below `kind` leads to."""
    schema = _adapter(kind).json_schema()
    level = schema
    for part in location:
        level = level["items"] if isinstance(part, int) else level["properties"][part]
        level = next((option for option in level.get("anyOf", ()) if "$ref" in option), level)
        if "$ref" in level:
            level = schema["$defs"][level["$ref"].rpartition("/")[2]]
    return list(level["properties"])


def _check_json(value: Any, key: str) -> None:
    """Raise ValueError for YAML values that JSON lacks: dates, NaN, keys other than text."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{key}: expected text as a key, got {_described(name)}; put it in quotes")
            _check_json(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_json(inner, f"{key}[{number}]")
    elif isinstance(value, int | float) and not _is_finite(value):
        raise ValueError(f"{key}: {value} is not a finite number")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{key}: {_described(value)} is no JSON value; put it in quotes")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floating-point numbers, which pydantic's JSON takes
        return False


def _described(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown[:_LONGEST]}{' …' * (len(shown) > _LONGEST)}"
