"""Histories up to now, of every user: what recommendations are asked for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.etl.config import SequencesConfig
from components.etl.contracts import data_docs
from components.etl.sequences.build import PLACED_EVENTS, build, without_place
from components.etl.sequences.job import parts
from components.etl.sources import faults
from components.etl.sources.raw import check_raw, locate_tables, persisted, read_raw
from components.shared.artifacts.raw_tables import approximate_rows
from components.shared.spark.parts import part_writer, write_parts
from components.shared.spark.session import readable, session
from data_contracts import tables

NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class HistoriesReport:
    """Counts of events read and refused, and of users with a history."""

    events_read: int
    events_refused: int
    users: int


def run_histories(
    config: SequencesConfig, data: str, *, histories: Path, users: Path, page: Path
) -> HistoriesReport:
    """Write SEQUENCES of all valid events in `data`, and USERS with a profile.

    Raises DataError and ContractError as the sequences step does.
    """
    # Nothing is held back, and nobody is dropped.
    everything = replace(config, split="temporal", min_interactions=1)
    with readable(data), data_docs(page, "Raw data") as docs:
        found = locate_tables(config, data)
        raw = read_raw(session(config.spark, "recommend"), config, found)
        with persisted(raw):
            refused = check_raw(config, raw, found, docs)
            refused.count(found["events"], raw["events"])
            is_log = found["events"].is_log

            def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
                read = [pa.Table.from_batches([batch]).cast(PLACED_EVENTS) for batch in batches]
                events = pa.concat_tables([PLACED_EVENTS.empty_table(), *read])
                chunk = build(events if is_log else without_place(events), everything, (NEVER, NEVER))
                with part_writer(str(histories), tables.SEQUENCES) as part:
                    part.write_table(chunk.sequences)
                yield pa.record_batch({"users": [chunk.sequences.num_rows]})

            valid = raw["events"].where(f"{faults.FAULT} is null").select(*PLACED_EVENTS.names)
            by_user = valid.repartition(parts(config, approximate_rows(found["events"])), "user_id")
            counted = by_user.mapInArrow(write, "users long").collect()
            write_parts(faults.valid_rows(raw["users"]).sort("user_id"), tables.USERS, users)
    events = refused.tallies["events"]
    return HistoriesReport(events.rows, sum(events.refused.values()), sum(row.users for row in counted))
