"""The sequences step: raw tables to sequences, catalogue, users, exposures and a quarantine."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from components.etl.config import SequencesConfig
from components.etl.contracts import DataDocs, check, data_docs
from components.etl.sequences import windows
from components.etl.sequences.build import PLACED_EVENTS, build, without_place
from components.etl.sequences.catalogue import catalogue_rows, with_train_counts
from components.etl.sequences.k_core import k_core
from components.etl.sequences.views import sequences_view
from components.etl.sources import faults
from components.etl.sources.faults import FAULT, ROW
from components.etl.sources.raw import check_ids, check_raw, locate_tables, persisted, read_raw
from components.etl.sources.readers import BLOCK_BIT, PLACE
from components.etl.sources.tally import GROUPS, Tally, batch_groups, combined, tally
from components.shared.artifacts.raw_tables import Source, approximate_rows
from components.shared.artifacts.storage import remove
from components.shared.errors import DataError
from components.shared.logs import logger
from components.shared.spark.parts import atomic_table, part_writer, read_parts, write_parts
from components.shared.spark.session import readable, session
from components.shared.times import parse_time
from data_contracts import tables

log = logger("sequences")

PART_ROWS = 500_000
ROW_GROUP = 50_000
FAULTY, DUPLICATES = "faulty", "duplicates"  # folders below the quarantine while the step runs
COUNT = "count "  # prefix of a name among the groups of the events' pass that are no groups of rows


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


def run_sequences(
    config: SequencesConfig,
    data: str,
    *,
    sequences: str | Path,
    catalogue: str | Path,
    users: str | Path,
    exposures: str | Path,
    quarantine: str | Path,
    page: Path,
) -> SequencesReport:
    """Write every table from the raw ones in `data`, whole or not at all.

    Tables are folders or s3:// URIs. Raises DataError: a table is missing, unreadable, empty, or lacks a
    column. Raises ContractError: a critical expectation failed, or more than `max_quarantine_share` of the
    rows of a table are faulty.
    """
    with readable(data), data_docs(page, "Raw data and sequences") as docs, ExitStack() as stack:
        found = locate_tables(config, data)  # before Spark takes its seconds to start
        spark = session(config.spark, "sequences")
        # A limit in bytes makes Spark add up a batch's size after every row: half of mapInArrow's time. The
        # largest value switches that off; rows of this step are some hundred bytes at most.
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(2**31 - 1))
        raw = read_raw(spark, config, found)
        stack.enter_context(persisted(raw))
        refused = check_raw(config, raw, found, docs)
        sequences, catalogue, users, exposures, quarantine = (
            stack.enter_context(atomic_table(table))
            for table in (sequences, catalogue, users, exposures, quarantine)
        )
        partitions = parts(config, approximate_rows(found["events"]))
        counts, events = _write_sequences(
            config, found["events"], raw["events"], partitions, sequences, quarantine
        )
        reasons = events.refused
        refused.record("events", events)
        refused.check("events", raw["events"])
        if not counts["users"] + counts["dropped"]:
            window = f"as_of={config.as_of!r}, core={config.core}"
            raise DataError(f"{data}: no usable event is left ({window}; refused: {reasons})")
        if not counts["users"]:
            raise DataError(
                f"{data}: no user has {config.min_interactions} distinct items; lower min_interactions, "
                "or bring a longer log"
            )
        log.info(f"{counts['users']:,} users kept, {counts['dropped']:,} dropped")
        if config.split == "temporal":
            windows.check(config, counts, faults.valid_rows(raw["events"]))
        docs.counts["Sequences"] = {
            "users kept": counts["users"],
            "users dropped": counts["dropped"],
            "users with a validation label": counts["valid"],
            "users with a test label": counts["test"],
            "users whose test label has the time of the item before it": counts["tied"],
        }
        _write_quarantine(raw, quarantine)
        kept = read_parts(spark, sequences, tables.SEQUENCES)
        _check_ids(config, docs, raw, kept, read_parts(spark, quarantine, tables.QUARANTINE))
        check(docs, "sequences", sequences_view(kept), {"min_interactions": config.min_interactions})
        rows = {table: counted.rows for table, counted in refused.tallies.items()}
        items = _write_catalogue(config, raw["items"], rows["items"], kept, catalogue)
        _write_users(config, raw["users"], rows["users"], kept, users)
        if "exposures" in raw:
            _write_exposures(config, raw["exposures"], rows["exposures"], kept, exposures)
        else:
            empty = spark.createDataFrame([], from_arrow_schema(tables.EXPOSURES))
            write_parts(empty, tables.EXPOSURES, exposures)
    return SequencesReport(
        events_read=events.rows,
        events_kept=counts["events"],
        events_quarantined=sum(reasons.values()),
        users=counts["users"],
        users_dropped=counts["dropped"],
        items=items,
        interactions=counts["interactions"],
        reasons=reasons,
    )


def parts(config: SequencesConfig, rows: int) -> int:
    """Return the number of part files of a table of about `rows` rows."""
    # A partition sees by itself whether the log was sorted by items, so a small log stays whole.
    return config.partitions or max(1, math.ceil(rows / PART_ROWS))


def _write_sequences(
    config: SequencesConfig,
    source: Source,
    events: DataFrame,
    partitions: int,
    out: str | Path,
    quarantine: str | Path,
) -> tuple[dict[str, int], Tally]:
    """Write the sequences of all users, and the refused events into folders below `quarantine`.

    Returns counts of users, dropped users, events and interactions kept, and the tally of the rows. One pass
    over the events; a window, a temporal split without `as_of` and a k-core each need another.
    """
    marked = faults.with_faulty_json(events)
    as_of = parse_time("as_of", config.as_of) if config.as_of else None
    if as_of:
        marked = marked.where(F.col(FAULT).isNotNull() | (F.col("timestamp") < F.lit(as_of)))
    cuts = windows.cuts(config, faults.valid_rows(events)) if config.split == "temporal" else None
    if config.core:
        is_valid = F.col(FAULT).isNull()
        marked = k_core(marked.where(is_valid), config.core).unionByName(marked.where(~is_valid))
    folder, faulty, duplicates = str(out), f"{quarantine}/{FAULTY}", f"{quarantine}/{DUPLICATES}"

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        valid = [PLACED_EVENTS.empty_table()]
        with part_writer(faulty, tables.QUARANTINE) as faulty_part:
            for batch in batches:
                read = pa.Table.from_batches([batch])
                rows, refused = faults.split_by_fault(read)
                faulty_part.write_table(refused)
                valid.append(rows.cast(PLACED_EVENTS))
                yield batch_groups(read)
        events = pa.concat_tables(valid)
        chunk = build(events if source.is_log else without_place(events), config, cuts)
        repeated = events.take(chunk.repeated)
        with part_writer(folder, tables.SEQUENCES) as part:
            part.write_table(chunk.sequences, row_group_size=ROW_GROUP)
        with part_writer(duplicates, tables.EVENTS) as part:
            part.write_table(repeated.select(tables.EVENTS.names))
        lengths, *ends = (
            chunk.sequences.column(name).combine_chunks() for name in ("item_ids", "train_end", "valid_end")
        )
        lengths = pc.list_value_length(lengths)
        counts = {
            "valid": pc.sum(pc.less(ends[0], ends[1])).as_py() or 0,
            "test": pc.sum(pc.less(ends[1], lengths)).as_py() or 0,
            "users": chunk.sequences.num_rows,
            "dropped": chunk.dropped_users,
            "tied": chunk.tied_users,
            "events": chunk.events,
            "interactions": pc.sum(lengths).as_py() or 0,
        }
        records = [{"fault": COUNT + name, "count": count, "fields": ""} for name, count in counts.items()]
        records += _repeats(repeated)
        yield pa.RecordBatch.from_pylist(records, schema=GROUPS)

    # The only shuffle of the events: by user, so that order, de-duplication, split and per-item sums need
    # no further exchange, and no sort in the JVM (numpy sorts integers, the JVM compares rows). Refused rows
    # come along to spare a pass; many lack a user, so they are distributed by their text.
    by_user = marked.repartition(partitions, F.coalesce(ROW, "user_id"))
    groups = combined(by_user.mapInArrow(write, from_arrow_schema(GROUPS))).collect()
    counts = Counter({g.fault.removeprefix(COUNT): g["count"] for g in groups if g.block is None})
    whole = []
    if config.as_of or config.core:  # the share of faulty rows refers to all rows
        block = F.shiftright(PLACE, BLOCK_BIT).alias("block")
        whole = events.groupBy(block).agg(F.count("*").alias("count"), F.min(PLACE).alias(PLACE)).collect()
    repeats = [g for g in groups if g.fault == DUPLICATES]
    return counts, tally(source, (g for g in groups if g.block is not None), whole, repeats)


def _repeats(rows: pa.Table) -> list[dict[str, Any]]:
    """Return the group (columns of GROUPS) of the repeated events `rows`, if there are any."""
    if not len(rows):
        return []
    first = rows.slice(pc.index(rows.column(PLACE), pc.min(rows.column(PLACE))).as_py(), 1).to_pylist()[0]
    place, row = first.pop(PLACE), json.dumps(first, default=str)
    return [{"fault": DUPLICATES, "count": len(rows), "fields": "", "place": place, "row": row}]


def _write_quarantine(raw: dict[str, DataFrame], out: str | Path) -> None:
    """Write all tables' refused rows to one file; those of events are staged in `out`."""
    spark = raw["events"].sparkSession
    duplicates = read_parts(spark, f"{out}/{DUPLICATES}", tables.EVENTS).withColumn(FAULT, F.lit("duplicate"))
    union = read_parts(spark, f"{out}/{FAULTY}", tables.QUARANTINE)
    for table, frame in {**raw, "events": duplicates}.items():
        union = union.union(faults.faulty_rows(table, frame))
    write_parts(union.repartition(1).sortWithinPartitions("table", "reason", "row"), tables.QUARANTINE, out)
    for staged in (FAULTY, DUPLICATES):
        remove(f"{out}/{staged}")


def _check_ids(
    config: SequencesConfig,
    docs: DataDocs,
    raw: Mapping[str, DataFrame],
    sequences: DataFrame,
    quarantine: DataFrame,
) -> None:
    """Report and bound users of `sequences` and items of the log without a row."""
    users, items = (faults.valid_rows(raw[table]) for table in ("users", "items"))
    ids = sequences.select("user_id")
    check_ids(config, docs, "user_id", ids.join(users, "user_id", "left_anti"), ids.count, users)
    refused = quarantine.where("table = 'events' and reason = 'unknown_item'")
    strangers = refused.select(F.get_json_object("row", "$.item_id").alias("item_id")).distinct()

    def items_of_the_log() -> int:
        return strangers.count() + sequences.select(F.explode("item_ids")).distinct().count()

    check_ids(config, docs, "item_id", strangers, items_of_the_log, items)


def _write_catalogue(
    config: SequencesConfig, items: DataFrame, rows: int, sequences: DataFrame, out: str | Path
) -> int:
    keep_emoji = config.emoji == "keep"
    counted = with_train_counts(faults.valid_rows(items), sequences)
    ordered = counted.repartition(parts(config, rows), "item_id").sortWithinPartitions("item_id")
    return write_parts(ordered, tables.CATALOGUE, out, lambda items: catalogue_rows(items, keep_emoji))


def _write_users(
    config: SequencesConfig, users: DataFrame, rows: int, sequences: DataFrame, out: str | Path
) -> None:
    """Write the raw users, and a row of nulls for users of sequences without one."""
    valid = faults.valid_rows(users)
    missing = sequences.select("user_id").join(valid.select("user_id"), "user_id", "left_anti")
    everyone = valid.unionByName(missing, allowMissingColumns=True)
    ordered = everyone.repartition(parts(config, rows), "user_id").sortWithinPartitions("user_id")
    write_parts(ordered, tables.USERS, out)


def _write_exposures(
    config: SequencesConfig, exposures: DataFrame, rows: int, sequences: DataFrame, out: str | Path
) -> None:
    """Write the lists of the sequences' users within the data window."""
    lists = faults.valid_rows(exposures).join(sequences.select("user_id"), "user_id", "left_semi")
    if config.as_of:
        lists = lists.where(F.col("timestamp") < F.lit(parse_time("as_of", config.as_of)))
    by_user = lists.repartition(parts(config, rows), "user_id")
    write_parts(by_user.sortWithinPartitions("user_id", "timestamp", "item_ids"), tables.EXPOSURES, out)
