"""Between pyarrow's types, which the contracts are written in, and Spark's."""

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, StructField, StructType


def spark_type(kind: pa.DataType) -> DataType:
    """Return Spark's type for an Arrow type."""
    return from_arrow_type(kind)


def spark_schema(schema: pa.Schema) -> StructType:
    """Return Spark's schema for an Arrow schema; every column may be null, as Spark itself reads files."""
    return StructType([StructField(field.name, spark_type(field.type), True) for field in schema])


def relaxed(kind: pa.DataType) -> pa.DataType:
    """Return `kind` with every nested field nullable."""
    if pa.types.is_list(kind):
        return pa.list_(relaxed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, relaxed(field.type)) for field in kind])
    return kind


def conform(batch: pa.RecordBatch | pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns that `schema` names, in its order and with its exact types, nested ones included.

    Arrow refuses to cast a nullable child to a required one, even when it holds no null, so nested
    arrays are put together anew.

    Raises:
        ValueError: a required field holds a null.
    """
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    columns = []
    for field in schema:
        column = table.column(field.name)
        parts = [_retyped(chunk, field, field.name) for chunk in column.chunks]
        columns.append(pa.chunked_array(parts, type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _retyped(array: pa.Array, field: pa.Field, path: str) -> pa.Array:
    if not field.nullable and array.null_count:
        raise ValueError(f"column '{path}' holds {array.null_count} nulls where none are allowed")
    kind = field.type
    if pa.types.is_list(kind):
        # `flatten` and fresh offsets: a sliced array's own offsets do not start at zero.
        lengths = pa.compute.fill_null(pa.compute.list_value_length(array), 0)
        offsets = pa.concat_arrays(
            [pa.array([0], pa.int32()), pa.compute.cumulative_sum(lengths).cast(pa.int32())]
        )
        values = _retyped(array.flatten(), kind.value_field, f"{path}[]")
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=mask)
    if pa.types.is_struct(kind):
        children = dict(zip((f.name for f in array.type), array.flatten(), strict=True))
        parts = [_retyped(children[child.name], child, f"{path}.{child.name}") for child in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    return array.cast(kind)
