"""Columns of raw tables as Parquet files store them, and as which types Spark reads them."""

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import types
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from components.shared.artifacts.raw_columns import is_empty, is_read, plain
from components.shared.artifacts.raw_tables import Source
from data_contracts import tables

UNSIGNED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}


def stored(source: Source, file: str) -> dict[str, pa.DataType]:
    """Return the contract's columns as the Parquet `file` stores them, none empty."""
    read = {own: kind for own, name, kind in _columns(source, file) if _is_read(source, name, kind)}
    return {own: plain(kind) for own, kind in read.items() if not is_empty(plain(kind))}


def lost(source: Source, file: str) -> dict[str, pa.DataType]:
    """Return the optional columns that the Parquet `file` stores as types that are not read."""
    return {name: kind for _, name, kind in _columns(source, file) if not _is_read(source, name, kind)}


def _columns(source: Source, file: str) -> list[tuple[str, str, pa.DataType]]:
    """Return the file's name, the contract's name and the stored type of each column."""
    found = source.footers[file].schema.to_arrow_schema()
    return [(f.name, name, f.type) for f in found for name in source.contract_names(f.name)]


def _is_read(source: Source, name: str, kind: pa.DataType) -> bool:
    return is_read(kind, tables.RAW[source.table].field(name))


def schema(source: Source, file: str, stored: Mapping[str, pa.DataType]) -> StructType:
    """Return the schema to read `stored` columns of the Parquet `file` with.

    Spark would start a job to find it, and may not know the types of unused columns.
    """
    columns = source.footers[file].schema
    physical = {columns.column(n).path: columns.column(n).physical_type for n in range(len(columns))}
    found = []
    for name, kind in stored.items():
        if types.is_timestamp(kind) and kind.unit == "ns" and physical[name] == "INT64":
            kind = pa.int64()  # INT96 looks the same to Arrow, but Spark reads it as a time
        found.append((name, _signed(kind)))
    return from_arrow_schema(pa.schema(found))


def _signed(kind: pa.DataType) -> pa.DataType:
    """Return the type as which Spark reads `kind`, which may be an unsigned integer."""
    if types.is_list(kind):
        return pa.list_(_signed(kind.value_type))
    return UNSIGNED.get(kind, kind)
