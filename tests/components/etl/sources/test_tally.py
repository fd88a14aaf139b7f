"""Counts and examples without Spark: what tasks find is added up, and located by file and row."""

import pyarrow as pa
import pytest
from pyspark.sql import Row

from components.etl.sources.readers import BLOCK_BIT, FILE_BIT
from components.etl.sources.tally import batch_groups, tally
from components.shared.artifacts.raw_tables import Source
from components.shared.artifacts.storage import Folder

FILES = ("events/b", "events/a")
ROWS = pa.schema(
    [("place", pa.int64()), ("fault", pa.string()), ("row", pa.string()), ("unread", pa.list_(pa.string()))]
)


def found(form: str, places: list[int]) -> list[str]:
    """Return the examples for a fault in the last of rows at `places`, and an unread field in the first."""
    rows = [{"place": place} for place in places]
    rows[-1] |= {"fault": "unknown_item", "row": '{"item_id": "x"}'}
    rows[0]["unread"] = ["dwell_seconds=long"]
    batches = [batch_groups(pa.Table.from_pylist(part, schema=ROWS)) for part in (rows[::2], rows[1::2])]
    groups = [Row(**group) for batch in batches for group in batch.to_pylist()]
    source = Source(table="events", format=form, folder=Folder("data", None, "data"), files=FILES)
    counted = tally(source, groups)
    assert (counted.rows, counted.refused, counted.unread) == (
        len(places),
        {"unknown_item": 1},
        {"dwell_seconds": 1},
    )
    return list(counted.examples.values())


@pytest.mark.parametrize("file", [0, 1])
def test_rows_of_parquet_are_numbered_by_itself(file):
    places = [(file << FILE_BIT) + row for row in (4, 5, 17)]
    name = f"data/events/{'ab'[file]}"
    assert found("parquet", places) == [
        f"{name}, row 5: dwell_seconds=long",
        f'{name}, row 18: {{"item_id": "x"}}',
    ]


def test_rows_of_texts_are_numbered_from_their_file_on():
    """The second file's first block follows 100 rows of others in Spark's task, its second block 7."""
    block = 1 << BLOCK_BIT
    places = [(1 << FILE_BIT) + place for place in (100, 101, 102, 2 * block + 7, 2 * block + 8)]
    assert found("jsonl", places) == [
        "data/events/b, row 1: dwell_seconds=long",
        'data/events/b, row 5: {"item_id": "x"}',
    ]
