"""Columns of the raw tables' files: whether those that a table needs are there, in types that can be read."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from pyarrow import types

from components.shared.errors import DataError
from data_contracts import tables

MALFORMED = "_malformed"
DECIMAL_DIGITS = 38  # which Spark reads


def check_names(shown: str, table: str, found: Sequence[str], only_ids: bool = False) -> None:
    """Raise DataError unless `found`, the columns of the file `shown`, make a file of `table`."""
    if MALFORMED in found:
        raise DataError(f"{shown}: the column name '{MALFORMED}' is reserved; rename or drop it")
    counts = Counter(name.lower() for name in found)  # Spark ignores the case of names
    if twice := [name for name in found if counts[name.lower()] > 1]:
        raise DataError(f"{shown}: column '{twice[0]}' appears twice; rename or drop one")
    for name in found:
        if name.lower() in tables.RAW[table].names and name != name.lower():
            raise DataError(
                f"{shown}: column '{name}' is written '{name.lower()}' in the table {table}; rename it, or "
                f"name it in sequences.sources.{table}.columns"
            )
    required = tables.REQUIRED_COLUMNS[table]
    for column in required:
        if column not in found and not (only_ids and not column.endswith("_id")):
            raise DataError(
                f"{shown}: column '{column}' is missing (found: {', '.join(found)}); "
                f"the {table} table needs {', '.join(required)}"
            )


def check_types(shown: str, table: str, found: pa.Schema) -> None:
    """Raise DataError for a required column of a type that is not read."""
    for name in tables.REQUIRED_COLUMNS[table]:
        if name not in found.names:  # `check_names` raises for missing columns
            continue
        wanted, kind = tables.RAW[table].field(name), found.field(name).type
        if not is_read(kind, wanted):
            raise DataError(
                f"{shown}: column '{name}' has type {kind}, expected {wanted.type}; cast it when you export "
                "the table"
            )


def is_read(kind: pa.DataType, wanted: pa.Field) -> bool:
    """Return whether `kind` can be read as `wanted`, or as null if that is optional."""
    kind = plain(kind)
    if types.is_decimal(kind) and kind.precision > DECIMAL_DIGITS:
        return False
    return is_empty(kind) or (_may_fit if wanted.nullable else _fits)(kind, wanted.type)


def plain(kind: pa.DataType) -> pa.DataType:
    """Return `kind` without what is storage alone: dictionaries, views, large or fixed sizes, JSON's name."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.string()  # some writers leave out that it is text
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    views = (types.is_list_view, types.is_large_list_view)
    if any(is_kind(kind) for is_kind in (*lists, *views)):
        return pa.list_(plain(kind.value_type))
    return kind


def is_empty(kind: pa.DataType) -> bool:
    """Return whether a column of the plain type `kind` holds nulls or empty lists alone."""
    return types.is_null(kind) or (types.is_list(kind) and types.is_null(kind.value_type))


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether every value of the type `found` can be one of `wanted`."""
    if types.is_string(wanted):
        # Warehouses export whole numbers as decimals without a fraction.
        return (
            types.is_string(found) or types.is_integer(found) or (types.is_decimal(found) and not found.scale)
        )
    if types.is_timestamp(wanted):
        is_time = types.is_timestamp(found) or types.is_date(found)
        return is_time or types.is_integer(found) or types.is_string(found)
    values = found.value_type if types.is_list(found) else found
    return types.is_string(values) or (types.is_list(found) and types.is_integer(values))


def _may_fit(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether values of `found` can be read as `wanted`, or else as null."""
    if types.is_list(found):
        return types.is_list(wanted) and _may_fit(found.value_type, wanted.value_type)
    is_number = types.is_integer(found) or types.is_floating(found) or types.is_decimal(found)
    is_scalar = types.is_string(found) or is_number or types.is_boolean(found)
    is_time = types.is_timestamp(found) or types.is_date(found)
    return (is_scalar or is_time) and not types.is_float16(found)  # which Spark does not read
