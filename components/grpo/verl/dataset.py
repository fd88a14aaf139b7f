"""Rows of the prompts table as verl's dataset class reads them, and back.

https://verl.readthedocs.io/en/latest/preparation/prepare_data.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from components.shared.artifacts.outputs import atomic_file
from components.shared.prompting.table import PromptRow


def write_dataset(path: Path, rows: Sequence[PromptRow]) -> None:
    """Write `rows` as Parquet; as ground truth, verl's dumps name the index of the row they belong to."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.tables import PROMPTS

    schema = pa.schema(
        [
            pa.field("data_source", pa.string()),
            pa.field("prompt", PROMPTS.field("messages").type),
            pa.field("reward_model", pa.struct({"ground_truth": pa.int64()})),
            pa.field("extra_info", pa.struct(list(PROMPTS))),
        ]
    )
    records = [
        {
            "data_source": "recllm",
            "prompt": row.messages,
            "reward_model": {"ground_truth": index},
            "extra_info": vars(row),
        }
        for index, row in enumerate(rows)
    ]
    with atomic_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(records, schema=schema), partial)


def row_of(extra_info: Mapping[str, Any]) -> PromptRow:
    """Return the row that verl hands a reward as `extra_info`, among entries of its own."""
    return PromptRow(**{field.name: extra_info[field.name] for field in fields(PromptRow)})
