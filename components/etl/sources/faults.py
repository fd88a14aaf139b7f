"""Row-level faults of the raw tables: the name of each row's first fault, null for a valid row."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from components.etl.sources.readers import PLACE
from components.shared.artifacts.raw_tables import MALFORMED
from data_contracts.tables import ACTIONS, EVENTS, QUARANTINE

FAULT, ROW = "fault", "row"


def event_faults(
    events: DataFrame, latest: datetime, item_ids: DataFrame, user_ids: DataFrame | None
) -> DataFrame:
    """Return `events` with a column `fault`.

    `item_ids` and `user_ids` are one-column frames of distinct ids; None accepts every user.
    """
    joined = _join_ids(events, item_ids, "item_id", "_item")
    unknown = [F.when(F.col("_item").isNull(), "unknown_item")]
    if user_ids is not None:
        joined = _join_ids(joined, user_ids, "user_id", "_user")
        unknown.append(F.when(F.col("_user").isNull(), "unknown_user"))
    reasons = [
        F.when(F.col(MALFORMED).isNotNull(), "malformed"),
        *(_missing(column) for column in ("user_id", "item_id", "action")),
        F.when(~F.col("action").isin(*ACTIONS), "unknown_action"),
        *_time_faults(latest),
        F.when((F.col("dwell_seconds") < 0) | F.isnan("dwell_seconds"), "negative_dwell"),
        *unknown,
    ]
    return joined.withColumn(FAULT, F.coalesce(*reasons)).drop("_item", "_user")


def exposure_faults(exposures: DataFrame, latest: datetime) -> DataFrame:
    """Return `exposures` with `fault`; items that the catalogue lacks are no fault of the list."""
    # A CSV cell with a list in Python's or JSON's notation would be read as a single id: "not_separated".
    only = F.when(F.size("item_ids") == 1, F.get("item_ids", F.lit(0)))
    reasons = [
        F.when(F.col(MALFORMED).isNotNull(), "malformed"),
        _missing("user_id"),
        *_time_faults(latest),
        F.when(F.coalesce(F.size("item_ids"), F.lit(0)) <= 0, "empty_list"),
        F.when(F.exists("item_ids", lambda item: F.coalesce(item, F.lit("")) == ""), "null_item_id"),
        F.when(only.rlike(r"""(?s)^\s*[\[(].*[,'"].*[\])]\s*$"""), "not_separated"),
    ]
    return exposures.withColumn(FAULT, F.coalesce(*reasons))


def keyed_faults(frame: DataFrame, key: str) -> DataFrame:
    """Return `frame` (users or items) with `fault`: malformed, a null key, or a repeated key.

    Of rows with the same key the one that sorts first by all its columns is valid.
    """
    columns = [c for c in frame.columns if c not in (key, MALFORMED, PLACE)]
    grouped = frame.withColumn(
        "_bad", F.coalesce(F.when(F.col(MALFORMED).isNotNull(), "malformed"), _missing(key))
    )
    order = Window.partitionBy(key, F.col("_bad").isNull()).orderBy(*columns)
    twice = F.when(F.row_number().over(order) > 1, "duplicate")
    return grouped.withColumn(FAULT, F.coalesce("_bad", twice)).drop("_bad")


def faulty_rows(table: str, frame: DataFrame) -> DataFrame:
    """Return the faulty rows of `frame` in QUARANTINE's columns: table, reason, row as JSON."""
    return frame.where(F.col(FAULT).isNotNull()).select(
        F.lit(table).alias("table"), F.col(FAULT).alias("reason"), _as_json(frame).alias(ROW)
    )


def with_faulty_json(events: DataFrame) -> DataFrame:
    """Return EVENTS' columns with `place`, `fault` and `row`: a faulty row as JSON, else null."""
    row = F.when(F.col(FAULT).isNotNull(), _as_json(events))
    return events.select(*EVENTS.names, PLACE, FAULT, row.alias(ROW))


def split_by_fault(events: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return valid rows (EVENTS' columns and `place`) and QUARANTINE rows of `with_faulty_json`."""
    is_valid = pc.is_null(events.column(FAULT))
    faulty = events.filter(pc.invert(is_valid))
    refused = [pa.repeat("events", faulty.num_rows), faulty.column(FAULT), faulty.column(ROW)]
    return events.filter(is_valid).drop([FAULT, ROW]), pa.table(refused, schema=QUARANTINE)


def valid_rows(frame: DataFrame) -> DataFrame:
    """Return the rows without a fault, without the helper columns."""
    return frame.where(F.col(FAULT).isNull()).drop(FAULT, MALFORMED, PLACE)


def _as_json(frame: DataFrame) -> Column:
    return F.to_json(F.struct(*(c for c in frame.columns if c not in (FAULT, PLACE))))


def _time_faults(latest: datetime) -> list[Column]:
    time = F.col("timestamp")
    return [
        F.when(time.isNull(), "null_timestamp"),
        F.when(time < F.timestamp_seconds(F.lit(0)), "pre_epoch"),
        F.when(time > F.lit(latest), "future"),
    ]


def _missing(column: str) -> Column:
    return F.when(F.coalesce(F.col(column), F.lit("")) == "", f"null_{column}")


def _join_ids(frame: DataFrame, ids: DataFrame, key: str, flag: str) -> DataFrame:
    """Return `frame` with `flag`: true where `ids` holds the key, else null."""
    # Broadcast: the events need no shuffle for it.
    return frame.join(F.broadcast(ids.select(key, F.lit(True).alias(flag))), key, "left")
