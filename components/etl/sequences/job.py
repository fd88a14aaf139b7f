"""The sequences step: raw tables to sequences, catalogue, users, exposures and a quarantine."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from components.etl.config import SequencesConfig, parse_time
from components.etl.contracts import check
from components.etl.data_docs import data_docs
from components.etl.sequences.build import SequenceRules, build
from components.etl.sequences.catalogue import catalogue_rows, with_train_counts
from components.etl.sequences.k_core import k_core
from components.etl.sequences.views import sequences_view
from components.etl.sources import faults
from components.etl.sources.faults import FAULT, ROW
from components.etl.sources.files import approximate_rows
from components.etl.sources.quarantine import Quarantine
from components.etl.sources.raw import RawTables, check_raw, locate_tables, read_raw
from components.etl.spark.parts import PartWriter, atomic_table, read_parts, write_parts
from components.etl.spark.session import batches_of_short_rows, readable, session
from components.shared.artifacts.storage import remove
from components.shared.errors import DataError
from components.shared.logs import logger
from data_contracts import tables

log = logger("sequences")

PART_ROWS, LEAST_PARTS = 500_000, 4
FAULTY, DUPLICATES = "faulty", "duplicates"  # folders below the quarantine while the step runs
REFUSED = "refused "  # prefix of a reason among the counts of the events' pass


@dataclass(frozen=True, kw_only=True)
class SequencesOutputs:
    """Folders (or s3:// URIs) of the step's tables, and the HTML file of its data docs."""

    sequences: str | Path
    catalogue: str | Path
    users: str | Path
    exposures: str | Path
    quarantine: str | Path
    data_docs: Path


@dataclass(frozen=True, kw_only=True)
class SequencesReport:
    """Counts of rows read, refused (`reasons`: events only) and written."""

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
    with readable(data), data_docs(out.data_docs, "Raw data and sequences") as docs, ExitStack() as stack:
        found = stack.enter_context(locate_tables(config, data))  # before Spark takes its seconds to start
        spark = session(config.spark, "sequences")
        raw = read_raw(spark, config, found)
        quarantine = check_raw(config, raw, docs, counted=("users", "items", "exposures"))
        folders = {
            name: stack.enter_context(atomic_table(getattr(out, name)))
            for name in ("sequences", "catalogue", "users", "exposures", "quarantine")
        }
        partitions = parts_for(config, approximate_rows(found["events"]))
        counts = _write_sequences(config, raw.events, partitions, folders["sequences"], folders["quarantine"])
        quarantine.record("events", counts["rows"], _reasons(counts))
        docs.counts.update(quarantine.sections())
        quarantine.check("events", raw.events)
        if not counts["users"] + counts["dropped"]:
            refused = quarantine.reasons["events"]
            window = f"as_of={config.as_of!r}, core={config.core}"
            raise DataError(f"{data}: no usable event is left ({window}; refused: {refused})")
        if not counts["users"]:
            raise DataError(
                f"{data}: no user has {config.min_interactions} distinct items; lower min_interactions, "
                "or bring a longer log"
            )
        log.info(f"{counts['users']:,} users kept, {counts['dropped']:,} dropped")
        _write_quarantine(raw, folders["quarantine"])
        sequences = read_parts(spark, folders["sequences"], tables.SEQUENCES)
        check(docs, "sequences", sequences_view(sequences), {"min_interactions": config.min_interactions})
        parts = parts_for(config, quarantine.rows["items"])
        items = _write_catalogue(config, raw, sequences, parts, folders["catalogue"])
        _write_users(raw, sequences, parts_for(config, quarantine.rows["users"]), folders["users"])
        parts = parts_for(config, quarantine.rows.get("exposures", 0))
        _write_exposures(config, raw, sequences, parts, folders["exposures"])
    return _report(quarantine, counts, items)


def parts_for(config: SequencesConfig, rows: int) -> int:
    """Return the number of part files of a table of `rows` rows."""
    return config.partitions or max(LEAST_PARTS, math.ceil(rows / PART_ROWS))


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
    """Return the rules of `config` for a data window that ends at `as_of`."""
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


def _write_sequences(
    config: SequencesConfig, events: DataFrame, partitions: int, out: str | Path, quarantine: str | Path
) -> dict[str, int]:
    """Write the sequences of all users, and the refused events into folders below `quarantine`.

    Returns counts of rows, users, dropped users, events and interactions kept, and of every reason. One pass
    over the events; a window, a temporal split without `as_of` and a k-core each need another.
    """
    marked = faults.with_faulty_json(events)
    as_of = parse_time("as_of", config.as_of) if config.as_of else None
    if as_of:
        marked = marked.where(F.col(FAULT).isNotNull() | (F.col("timestamp") < F.lit(as_of)))
    elif config.split == "temporal":
        as_of = _after_last(faults.valid_rows(events))
    if config.core:
        is_valid = F.col(FAULT).isNull()
        marked = k_core(marked.where(is_valid), config.core).unionByName(marked.where(~is_valid))
    sequence_rules = rules(config, as_of or datetime(1970, 1, 1, tzinfo=UTC))
    folder, faulty, duplicates = str(out), f"{quarantine}/{FAULTY}", f"{quarantine}/{DUPLICATES}"

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        valid, counts = [tables.EVENTS.empty_table()], Counter[str]()
        with PartWriter(faulty, tables.QUARANTINE) as faulty_part:
            for batch in batches:
                rows, refused = faults.split_by_fault(pa.Table.from_batches([batch]))
                faulty_part.write(refused)
                valid.append(rows.cast(tables.EVENTS))
                counts["rows"] += batch.num_rows
                for found in refused.column("reason").value_counts().to_pylist():
                    counts[REFUSED + found["values"]] += found["counts"]
        chunk = build(pa.concat_tables(valid), sequence_rules)
        with (
            PartWriter(folder, tables.SEQUENCES) as part,
            PartWriter(duplicates, tables.EVENTS) as duplicates_part,
        ):
            part.write(chunk.sequences)
            duplicates_part.write(chunk.duplicates)
        counts.update(
            {
                "users": chunk.sequences.num_rows,
                "dropped": chunk.dropped_users,
                "events": chunk.events,
                "interactions": pc.sum(pc.list_value_length(chunk.sequences.column("item_ids"))).as_py() or 0,
                REFUSED + "duplicate": chunk.duplicates.num_rows,
            }
        )
        yield pa.record_batch({"name": list(counts), "count": list(counts.values())})

    # The only shuffle of the events: by user, so that order, de-duplication, split and per-item sums need
    # no further exchange, and no sort in the JVM (numpy sorts integers, the JVM compares rows). Refused rows
    # come along to spare a pass; many lack a user, so they are distributed by their text.
    by_user = marked.repartition(partitions, F.coalesce(ROW, "user_id"))
    summed = by_user.mapInArrow(write, "name string, count long").groupBy("name").agg(F.sum("count"))
    with batches_of_short_rows(events.sparkSession):
        counts = Counter(dict(map(tuple, summed.collect())))
    if config.as_of or config.core:
        counts["rows"] = events.count()  # the share of faulty rows refers to all rows
    return counts


def _reasons(counts: dict[str, int]) -> dict[str, int]:
    found = {name.removeprefix(REFUSED): n for name, n in counts.items() if name.startswith(REFUSED) and n}
    return dict(sorted(found.items()))


def _after_last(events: DataFrame) -> datetime:
    """Return the end of the data window without `as_of`: 1 µs after the last event."""
    last = events.agg(F.unix_micros(F.max("timestamp"))).collect()[0][0]
    if last is None:
        raise DataError("no usable event, so the temporal split has no end; see the quarantine table")
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=last + 1)


def _write_quarantine(raw: RawTables, out: str | Path) -> None:
    """Write the refused rows of all tables to one file; those of the events are staged in `out`."""
    spark: SparkSession = raw.events.sparkSession
    duplicates = read_parts(spark, f"{out}/{DUPLICATES}", tables.EVENTS).withColumn(FAULT, F.lit("duplicate"))
    union = read_parts(spark, f"{out}/{FAULTY}", tables.QUARANTINE)
    for table, frame in {**raw.present(), "events": duplicates}.items():
        union = union.union(faults.faulty_rows(table, frame))
    write_parts(union.repartition(1).sortWithinPartitions("table", "reason", "row"), tables.QUARANTINE, out)
    for staged in (FAULTY, DUPLICATES):
        remove(f"{out}/{staged}")


def _write_catalogue(
    config: SequencesConfig, raw: RawTables, sequences: DataFrame, partitions: int, out: str | Path
) -> int:
    keep_emoji = config.emoji == "keep"
    frame = with_train_counts(faults.valid_rows(raw.items), sequences).repartition(partitions, "item_id")
    return write_parts(
        frame.sortWithinPartitions("item_id"),
        tables.CATALOGUE,
        out,
        lambda items: catalogue_rows(items, keep_emoji),
    )


def _write_users(raw: RawTables, sequences: DataFrame, partitions: int, out: str | Path) -> None:
    """Write the raw users, and a row of nulls for users of sequences without one."""
    known = faults.valid_rows(raw.users)
    missing = sequences.select("user_id").join(known.select("user_id"), "user_id", "left_anti")
    everyone = known.unionByName(missing, allowMissingColumns=True)
    write_parts(
        everyone.repartition(partitions, "user_id").sortWithinPartitions("user_id"), tables.USERS, out
    )


def _write_exposures(
    config: SequencesConfig, raw: RawTables, sequences: DataFrame, partitions: int, out: str | Path
) -> None:
    """Write the lists of the sequences' users within the data window; an empty table if there are none."""
    spark: SparkSession = raw.events.sparkSession
    if raw.exposures is None:
        write_parts(spark.createDataFrame([], from_arrow_schema(tables.EXPOSURES)), tables.EXPOSURES, out)
        return
    lists = faults.valid_rows(raw.exposures).join(sequences.select("user_id"), "user_id", "left_semi")
    if config.as_of:
        lists = lists.where(F.col("timestamp") < F.lit(parse_time("as_of", config.as_of)))
    ordered = lists.repartition(partitions, "user_id").sortWithinPartitions(
        "user_id", "timestamp", "item_ids"
    )
    write_parts(ordered, tables.EXPOSURES, out)


def _microseconds(time: datetime) -> int:
    return int((time - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))
