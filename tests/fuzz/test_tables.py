"""Valid tables, mutated: each is read right, refused by name, or counted; seeded."""

import csv
import json
import random
import shutil
import string
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from components.etl.config import SequencesConfig
from components.etl.sources import faults, raw
from components.etl.sources.tally import groups, tally
from components.etl.sources.values import WHITE
from components.shared.artifacts import raw_tables
from components.shared.artifacts.storage import Folder
from components.shared.errors import UserError
from data_contracts.null_words import NULL_WORDS

SEEDED = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), max_examples=400
)
TABLES = ("users", "items", "events")
ROWS = {
    "users": [{"user_id": f"u{n}", "age": 20 + n, "interests": ["tea", "go"]} for n in range(9)],
    "items": [{"item_id": f"i{n}", "title": f'The "{n}", new', "tags": ["a", "b"]} for n in range(9)],
    "events": [
        {
            "user_id": f"u{n % 9}",
            "item_id": f"i{n % 7}",
            "action": "view",
            "timestamp": f"2025-01-05T16:{n:02d}Z",
        }
        for n in range(50)
    ],
}


def write(folder, table, rows, form):
    path = folder / f"{table}.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(
                {k: "|".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
            )
    return path


def mutated(data: bytes, seed: int) -> bytes:
    """Return `data` with one to four pieces overwritten, cut out, doubled, inserted or moved."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        piece = data[start : start + chance.choice((1, 2, 8, 64, len(data)))]
        junk = chance.choice(
            (
                b"\x00",
                b"\xff\xfe",
                b"\xe9",
                b'"',
                b"'",
                b'\\"',
                b'""',
                b"\n",
                b"\r",
                b";",
                b",",
                b"|",
                b"\t",
                b"{",
                b"]",
            )
        )
        rest = data[start + len(piece) :]
        data = data[:start] + chance.choice((junk, b"", piece + piece, junk + piece, piece[::-1])) + rest
    return data


@SEEDED
@given(st.sampled_from(TABLES), st.sampled_from(("csv", "jsonl", "parquet")), st.integers(0, 2**32))
def test_mutated_files_are_checked_without_a_traceback(tmp_path_factory, table, form, seed):
    folder = tmp_path_factory.mktemp("files")
    rows = (
        [{**row, "timestamp": datetime(2025, 1, 5)} for row in ROWS["events"]] if table == "events" else None
    )
    path = write(folder, table, rows if rows and form == "parquet" else ROWS[table], form)
    path.write_bytes(mutated(path.read_bytes(), seed))
    try:
        source = raw_tables.locate(Folder.at(folder), table)
        raw_tables.check(source)
        raw_tables.read_to_the_end(source)
    except UserError as error:
        assert str(folder) in str(error)
    finally:
        shutil.rmtree(folder)


ODD = st.one_of(
    st.sampled_from(
        [*NULL_WORDS, *map(str.upper, NULL_WORDS), "", " ", "0", "-1", "1.0", "7.3E+18", "1e5", "007"]
    ),
    st.sampled_from(
        ["0000-00-00", "2025-W01-7", "20250105", "99999999999999", "1e400", "\u2212", "'", '"', "\\", "a|b"]
    ),
    st.sampled_from(
        ["['a', 'b']", '["a"', "a, b", "a;b", "{a,b}", "[]", "[[1]]", "\ufffd", "\u00e9", "é", "😀", "\x07"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=12),
)
EVENT = st.fixed_dictionaries(
    {
        "user_id": ODD | st.sampled_from(["u1", "u2"]),
        "item_id": ODD | st.just("i1"),
        "action": ODD | st.sampled_from(["view", "like"]),
        "timestamp": ODD | st.just("2025-01-05T16:46Z"),
        "dwell_seconds": ODD | st.just("1.5"),
    }
)
ITEM = st.fixed_dictionaries(
    {"item_id": ODD | st.just("i1"), "title": ODD, "tags": ODD, "created_at": ODD | st.just("2025-01-05")}
)
USER = st.fixed_dictionaries({"user_id": ODD, "age": ODD | st.just("21.0"), "interests": ODD})
MANY = {"min_size": 60, "max_size": 60}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl"])
@settings(SEEDED, max_examples=2, phases=[Phase.generate])  # to shrink 180 rows takes Spark minutes
@given(st.lists(USER, **MANY), st.lists(ITEM, **MANY), st.lists(EVENT, **MANY))
def test_mutated_cells_are_read_right_or_counted(spark, tmp_path_factory, form, users, items, events):
    folder = tmp_path_factory.mktemp("cells")
    written = {
        "users": [*users, {"user_id": "u1", "age": "30", "interests": "a|b"}],
        "items": [*items, {"item_id": "i1", "title": "Tea", "tags": "a|b", "created_at": "2025-01-05"}],
        "events": events,
    }
    for table, rows in written.items():
        write(folder, table, rows, form)
    found = {table: raw_tables.locate(Folder.at(folder), table) for table in TABLES}
    for source in found.values():
        raw_tables.check(source)
        raw_tables.read_to_the_end(source)
    for table, frame in raw.read_raw(spark, SequencesConfig(), found).items():
        counted = tally(found[table], groups(frame).collect())
        assert counted.rows == len(written[table])
        assert all(
            faults.advice(reason) and str(folder) in counted.examples[reason] for reason in counted.refused
        )
        valid = faults.valid_rows(frame).collect()
        assert len(valid) + sum(counted.refused.values()) == counted.rows
        key = "item_id" if table == "items" else "user_id"
        assert {row[key] for row in valid} <= {row[key].strip(WHITE) for row in written[table]}
        for row in valid:
            assert row[key].strip() and row[key].strip(string.whitespace).lower() not in NULL_WORDS
            if table == "events":
                assert row.action in ("view", "like") and row.item_id and row.timestamp
                assert row.dwell_seconds is None or 0 <= row.dwell_seconds < float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_mutated_log_gives_all_tables_or_none(sample_folder, run_step, tmp_path, seed):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(sample_folder, data)
    chance = random.Random(seed)
    file = data / f"{chance.choice(TABLES)}.parquet"
    rows = pq.read_table(file).slice(0, 5000).to_pylist()
    file.unlink()
    lines = [json.dumps(row, default=str) for row in rows]
    lines[chance.randrange(len(lines))] = mutated(lines[0].encode(), seed).decode(errors="ignore")
    file.with_suffix(".jsonl").write_text("\n".join(lines))
    try:
        run_step(data, out)
    except UserError as error:
        assert str(error)
    tables = {path.name for path in out.iterdir()} - {"docs.html"}
    assert tables in (set(), {"sequences", "catalogue", "users", "exposures", "quarantine"})
