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
    found = source.footers[file].schema.to_arrow_schema()
    unread = lost(source, file)
    read = [f for f in found if any(name not in unread for name in source.contract_names(f.name))]
    return {f.name: plain(f.type) for f in read if not is_empty(plain(f.type))}


def lost(source: Source, file: str) -> dict[str, pa.DataType]:
    """Return the optional columns that the Parquet `file` stores as types that are not read."""
    found, wanted = source.footers[file].schema.to_arrow_schema(), tables.RAW[source.table]
    named = [(name, f.type) for f in found for name in source.contract_names(f.name)]
    return {name: kind for name, kind in named if not is_read(kind, wanted.field(name))}


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
