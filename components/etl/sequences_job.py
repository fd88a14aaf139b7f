"""The sequences step: raw tables to sequences, catalogue and users, with what was refused beside them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from components.etl import faults
from components.etl.catalogue import catalogue
from components.etl.config import SequencesConfig, parse_time
from components.etl.contracts import check
from components.etl.core import k_core
from components.etl.data_docs import data_docs
from components.etl.quarantine import Quarantine
from components.etl.raw import RawTables, check_raw, local_copy, locate_raw, read_raw
from components.etl.sequences import SequenceRules, build, whole_users
from components.etl.sink import PartWriter, write_parts
from components.etl.spark import readable, session
from components.etl.types import spark_schema
from components.etl.views import sequences_view
from components.shared.errors import DataError
from components.shared.outputs import whole_folder
from data_contracts import tables

EVENT_ORDER = ("user_id", "timestamp", "ordinal", "item_id", "action", "dwell_seconds")
COUNTS = "users long, dropped long, events long, interactions long, duplicates long"


@dataclass(frozen=True, kw_only=True)
class SequencesOutputs:
    """Where the step's tables (folders of Parquet) and its Data Docs (one HTML file) go."""

    sequences: Path
    catalogue: Path
    users: Path
    quarantine: Path
    data_docs: Path


@dataclass(frozen=True, kw_only=True)
class SequencesReport:
    """Counts of what came in, what was refused (by reason, events only) and what came out."""

    events_read: int
    events_kept: int
    events_quarantined: int
    users: int
    users_dropped: int
    items: int
    interactions: int
    reasons: dict[str, int]


def run_sequences(config: SequencesConfig, data: str, out: SequencesOutputs) -> SequencesReport:
    """Read the raw tables in `data` (a folder or an s3:// URI) and write every output, whole or not at all.

    Raises:
        DataError: a table is missing, unreadable, empty, or lacks a column.
        ContractError: a critical expectation failed, or more than `max_quarantine_share` of the rows
            of a table are faulty.
    """
    with readable(data), data_docs(out.data_docs, "Raw data and sequences") as docs, ExitStack() as whole:
        found = locate_raw(whole.enter_context(local_copy(data)))  # before Spark takes its seconds to start
        spark = session(config.spark, "sequences")
        raw = read_raw(spark, config, found)
        quarantine = check_raw(config, raw, docs)
        folders = {
            name: whole.enter_context(whole_folder(getattr(out, name)))
            for name in ("sequences", "catalogue", "users", "quarantine")
        }
        counts = _write_sequences(config, raw.events, folders["sequences"], folders["quarantine"])
        quarantine.add("events", "duplicate", counts["duplicates"])
        docs.counts.update(quarantine.shown())
        if not counts["users"]:
            raise DataError(
                f"{data}: no user has {config.min_interactions} distinct items; lower min_interactions, "
                "or bring a longer log"
            )
        print(f"sequences: {counts['users']:,} users kept, {counts['dropped']:,} dropped", flush=True)
        _write_quarantine(raw, folders["quarantine"])
        sequences = spark.read.schema(spark_schema(tables.SEQUENCES)).parquet(str(folders["sequences"]))
        check(docs, "sequences", sequences_view(sequences), {"min_interactions": config.min_interactions})
        items = _write_catalogue(config, raw, sequences, folders["catalogue"])
        _write_users(config, raw, sequences, folders["users"])
    return _report(quarantine, counts, items)


def _report(quarantine: Quarantine, counts: dict[str, int], items: int) -> SequencesReport:
    reasons = quarantine.reasons["events"]
    return SequencesReport(
        events_read=quarantine.rows["events"],
        events_kept=counts["events"],
        events_quarantined=sum(reasons.values()),
        users=counts["users"],
        users_dropped=counts["dropped"],
        items=items,
        interactions=counts["interactions"],
        reasons=reasons,
    )


def rules(config: SequencesConfig, as_of: datetime) -> SequenceRules:
    """Return the configuration as the numbers that `build` works with."""
    test_from = as_of - timedelta(days=config.test_days)
    valid_from = test_from - timedelta(days=config.valid_days)
    return SequenceRules(
        min_interactions=config.min_interactions,
        temporal=config.split == "temporal",
        valid_from=_microseconds(valid_from),
        test_from=_microseconds(test_from),
        action_weights=tuple(config.action_weights.get(action, 0.0) for action in tables.ACTIONS),
        dwell_weight=config.dwell_weight,
        full_dwell_seconds=config.full_dwell_seconds,
    )


def _write_sequences(config: SequencesConfig, events: DataFrame, out: Path, refused: Path) -> dict[str, int]:
    """Write the sequences of all users; duplicates go to `refused` in the quarantine's columns."""
    usable = faults.clean(events)
    as_of = parse_time("as_of", config.as_of) if config.as_of else None
    if as_of:
        usable = usable.where(F.col("timestamp") < F.lit(as_of))
    elif config.split == "temporal":
        as_of = _after_last(usable)
    if config.core:
        usable = k_core(usable, config.core)
    plan = rules(config, as_of or datetime(1970, 1, 1, tzinfo=UTC))
    folder, duplicates = str(out), str(refused / "duplicates")
    columns = tables.EVENTS.names

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        users = dropped = kept = interactions = repeated = 0
        with PartWriter(folder, tables.SEQUENCES) as part, PartWriter(duplicates, tables.EVENTS) as twice:
            for table in whole_users(batches):
                chunk = build(table, plan)
                part.write(chunk.sequences)
                twice.write(chunk.duplicates.cast(tables.EVENTS))
                users += chunk.sequences.num_rows
                dropped += chunk.dropped_users
                kept += chunk.events
                interactions += len(chunk.sequences.column("item_ids").combine_chunks().flatten())
                repeated += chunk.duplicates.num_rows
        row = (users, dropped, kept, interactions, repeated)
        yield pa.record_batch([[n] for n in row], names=[n.split()[0] for n in COUNTS.split(", ")])

    # The one shuffle of the events: by user, so that a task sees whole users, whatever is done to them
    # afterwards. The sort spills to disk; de-duplication, order, split and the per-item sums then need
    # no further exchange, and the part file is written by the task itself.
    sorted_events = (
        usable.select(*columns).repartition(config.partitions, "user_id").sortWithinPartitions(*EVENT_ORDER)
    )
    total = sorted_events.mapInArrow(write, COUNTS).groupBy().sum().collect()[0]
    return dict(zip((n.split()[0] for n in COUNTS.split(", ")), total, strict=True))


def _after_last(events: DataFrame) -> datetime:
    """Return the moment after the last event: the end of the data window where none is given."""
    last = events.agg(F.unix_micros(F.max("timestamp"))).collect()[0][0]
    if last is None:
        raise DataError("no usable event, so the temporal split has no end; see the quarantine table")
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=last + 1)


def _write_quarantine(raw: RawTables, out: Path) -> None:
    spark: SparkSession = raw.events.sparkSession
    repeated = spark.read.schema(spark_schema(tables.EVENTS)).parquet(str(out / "duplicates"))
    frames = [faults.quarantined(table, getattr(raw, table)) for table in ("users", "items", "events")]
    row = F.to_json(F.struct(*repeated.columns))
    frames.append(
        repeated.select(F.lit("events").alias("table"), F.lit("duplicate").alias("reason"), row.alias("row"))
    )
    union = frames[0]
    for frame in frames[1:]:
        union = union.union(frame)
    write_parts(union.repartition(1).sortWithinPartitions("table", "reason", "row"), tables.QUARANTINE, out)
    for file in (out / "duplicates").iterdir():
        file.unlink()
    (out / "duplicates").rmdir()


def _write_catalogue(config: SequencesConfig, raw: RawTables, sequences: DataFrame, out: Path) -> int:
    frame = catalogue(faults.clean(raw.items), sequences, config.partitions, config.emoji == "keep")
    return write_parts(frame, tables.CATALOGUE, out)


def _write_users(config: SequencesConfig, raw: RawTables, sequences: DataFrame, out: Path) -> None:
    """Write the raw users, and the users of sequences that they lack with nulls."""
    known = faults.clean(raw.users)
    missing = sequences.select("user_id").join(known.select("user_id"), "user_id", "left_anti")
    everyone = known.unionByName(missing, allowMissingColumns=True)
    write_parts(
        everyone.repartition(config.partitions, "user_id").sortWithinPartitions("user_id"), tables.USERS, out
    )


def _microseconds(time: datetime) -> int:
    return int((time - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
