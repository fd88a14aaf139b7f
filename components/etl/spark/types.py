"""Between pyarrow's types, which the contracts are written in, and Spark's."""

import pyarrow as pa


def relaxed(kind: pa.DataType) -> pa.DataType:
    """Return `kind` with every nested field nullable."""
    if pa.types.is_list(kind):
        return pa.list_(relaxed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, relaxed(field.type)) for field in kind])
    return kind


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns that `schema` names, in its order and with its exact types.

    Raises:
        ValueError: a required field holds a null.
    """
    return table.select(schema.names).cast(schema)
