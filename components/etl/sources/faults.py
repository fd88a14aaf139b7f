"""Row-level faults of the raw tables: the name of each row's first fault, null for a valid row."""

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from components.etl.sources.readers import PLACE, UNREAD
from components.etl.sources.values import known
from components.shared.artifacts.raw_columns import MALFORMED
from data_contracts.tables import ACTIONS, EVENTS, QUARANTINE

FAULT, ROW = "fault", "row"
HELPERS = (FAULT, MALFORMED, UNREAD, PLACE)
_EXPONENT = r"^\s*[+-]?(\d+[.,]\d*[eE][+-]?\d+|\d+[eE]\+\d+)\s*$"
_DECIMAL = r"^\s*[+-]?\d+\.0+\s*$"

ADVICE = {
    "malformed": "fields are missing or left over, or one is not of its type (times: ISO 8601 or Unix "
    "seconds): correct the export",
    "exponent": "ids became floating-point numbers, as in a spreadsheet, which merges them: export text",
    "decimal": "ids became decimal numbers, as in pandas where a value is missing: export them as text",
    "binary": "ids are bytes that are no text, such as binary UUIDs: export them as text",
    "control": "ids hold NUL bytes, with which a file is padded after a crash: export it again",
    "null": "the column is empty or holds a word for null (sequences.null_words)",
    "duplicate": "nothing, if a log may repeat itself; of rows with one id the fuller wins, field by field",
    "unknown_action": f"rename actions to {', '.join(ACTIONS)}",
    "unknown_item": "add the items; do both tables write ids alike, with their leading zeros?",
    "unknown_user": "add the users; do both tables write ids alike, with their leading zeros?",
    "pre_epoch": "are times in seconds? eight digits are read as a day",
    "future": "are times in milliseconds? write seconds or ISO 8601, or set sequences.latest",
    "empty_list": "leave out lists without items",
    "wrong_propensities": "give each item of a list one probability above 0, at most 1",
    "not_separated": 'separate the items of a list by "|"',
}
"""What to do about a fault, by its name or the beginning of it."""


def advice(reason: str) -> str:
    """Return what to do about the fault called `reason`."""
    return ADVICE.get(reason) or ADVICE[reason.split("_")[0]]


def event_faults(
    events: DataFrame,
    latest: datetime,
    item_ids: DataFrame,
    user_ids: DataFrame | None,
    null_words: Sequence[str] = (),
) -> DataFrame:
    """Return `events` with a column `fault`.

    `item_ids` and `user_ids` are one-column frames of distinct ids; None accepts every user.
    """
    joined = _join_ids(events, item_ids, "item_id", "_item")
    # An item of the catalogue has an id without faults: a quick test for most events.
    item = F.coalesce(_missing("item_id", null_words), _mangled("item_id"), F.lit("unknown_item"))
    unknown = [F.when(F.col("_item").isNull(), item)]
    if user_ids is not None:
        joined = _join_ids(joined, user_ids, "user_id", "_user")
        unknown.append(F.when(F.col("_user").isNull(), "unknown_user"))
    reasons = [
        F.when(F.col(MALFORMED).isNotNull(), "malformed"),
        _missing("user_id"),
        _mangled("user_id"),
        F.when(
            F.coalesce(~F.col("action").isin(*ACTIONS), F.lit(True)),
            F.coalesce(_missing("action", null_words), F.lit("unknown_action")),
        ),
        *_time_faults(latest),
        *unknown,
    ]
    return joined.withColumn(FAULT, F.coalesce(*reasons)).drop("_item", "_user")


def exposure_faults(exposures: DataFrame, latest: datetime) -> DataFrame:
    """Return `exposures` with `fault`; items that the catalogue lacks are no fault of the list."""

    # A list whose one item is the text of a list.
    only = F.when(F.size("item_ids") == 1, F.get("item_ids", F.lit(0)))
    reasons = [
        F.when(F.startswith(F.col(MALFORMED), F.lit("item_ids=")), "not_separated"),
        F.when(only.rlike(r"""(?s)^\s*[\[(].*[,'"].*[\])]\s*$"""), "not_separated"),
        F.when(F.col(MALFORMED).isNotNull(), "malformed"),
        _missing("user_id"),
        _mangled("user_id"),
        *_time_faults(latest),
        F.when(F.coalesce(F.size("item_ids"), F.lit(0)) <= 0, "empty_list"),
        F.when(F.exists("item_ids", lambda item: F.trim(F.coalesce(item, F.lit(""))) == ""), "null_item_id"),
        F.when(F.exists("item_ids", lambda item: item.rlike(_EXPONENT)), "exponent_item_id"),
        F.when(F.exists("item_ids", lambda item: item.rlike(_DECIMAL)), "decimal_item_id"),
        F.when(F.size("propensities") != F.size("item_ids"), "wrong_propensities"),
        F.when(~F.forall("propensities", _is_probability), "wrong_propensities"),
    ]
    return exposures.withColumn(FAULT, F.coalesce(*reasons))


def _is_probability(value: Column) -> Column:
    return F.coalesce((value > 0) & (value <= 1), F.lit(False))


def keyed_faults(frame: DataFrame, key: str) -> DataFrame:
    """Return users or items with `fault`: malformed, key null, mangled or repeated.

    Of rows with one key the fullest is valid, the latest of equals; what it lacks comes from the next.
    """
    fields = [c for c in frame.columns if c not in (key, *HELPERS)]
    given = [_given(frame, name) for name in fields]
    bad = F.coalesce(F.when(F.col(MALFORMED).isNotNull(), "malformed"), _missing(key), _mangled(key))
    ranked = frame.withColumn("_bad", bad).withColumn("_given", sum((g.cast("int") for g in given), F.lit(0)))
    same = Window.partitionBy(key, F.col("_bad").isNull()).orderBy(F.desc("_given"), F.desc(PLACE))
    everyone = same.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    merged = [
        F.first(F.when(g, F.col(n)), ignorenulls=True).over(everyone)
        for n, g in zip(fields, given, strict=True)
    ]
    number = F.row_number().over(same)
    chosen = F.col("_bad").isNull() & (number == 1)
    return ranked.select(
        key,
        *(F.when(chosen, m).otherwise(F.col(n)).alias(n) for n, m in zip(fields, merged, strict=True)),
        MALFORMED,
        UNREAD,
        PLACE,
        F.coalesce("_bad", F.when(number > 1, "duplicate")).alias(FAULT),
    )


def _given(frame: DataFrame, name: str) -> Column:
    """Return whether the column holds anything."""
    kind = frame.schema[name].dataType.typeName()
    if kind == "array":
        return F.coalesce(F.size(name), F.lit(0)) > 0
    return F.col(name).isNotNull() & (F.trim(name) != "" if kind == "string" else F.lit(True))


def faulty_rows(table: str, frame: DataFrame) -> DataFrame:
    """Return the faulty rows of `frame` in QUARANTINE's columns: table, reason, row as JSON."""
    return frame.where(F.col(FAULT).isNotNull()).select(
        F.lit(table).alias("table"), F.col(FAULT).alias("reason"), as_json(frame).alias(ROW)
    )


def with_faulty_json(events: DataFrame) -> DataFrame:
    """Return EVENTS' columns, `place`, `unread`, `fault` and `row`: a faulty row as JSON, else null."""
    row = F.when(F.col(FAULT).isNotNull(), as_json(events))
    return events.select(*EVENTS.names, PLACE, UNREAD, FAULT, row.alias(ROW))


def split_by_fault(events: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return valid rows (EVENTS' columns and `place`) and QUARANTINE rows of `with_faulty_json`."""
    is_valid = pc.is_null(events.column(FAULT))
    faulty = events.filter(pc.invert(is_valid))
    refused = [pa.repeat("events", faulty.num_rows), faulty.column(FAULT), faulty.column(ROW)]
    return events.filter(is_valid).select([*EVENTS.names, PLACE]), pa.table(refused, schema=QUARANTINE)


def valid_rows(frame: DataFrame) -> DataFrame:
    """Return the rows without a fault, without the helper columns."""
    return frame.where(F.col(FAULT).isNull()).drop(*HELPERS)


def as_json(frame: DataFrame) -> Column:
    """Return each row as JSON, without the helper columns but the malformed text."""
    return F.to_json(F.struct(*(c for c in frame.columns if c not in (FAULT, UNREAD, PLACE))))


def _time_faults(latest: datetime) -> list[Column]:
    time = F.col("timestamp")
    return [
        F.when(time.isNull(), "null_timestamp"),
        F.when(time < F.timestamp_seconds(F.lit(0)), "pre_epoch"),
        F.when(time > F.lit(latest), "future"),
    ]


def _missing(column: str, null_words: Sequence[str] = ()) -> Column:
    value = known(F.col(column), StringType(), null_words)
    return F.when(F.trim(F.coalesce(value, F.lit(""))) == "", f"null_{column}")


def _mangled(column: str) -> Column:
    """Return the fault of an id that was a number, or is no text."""
    form = F.when(F.col(column).rlike(_EXPONENT), f"exponent_{column}").when(
        F.col(column).rlike(_DECIMAL), f"decimal_{column}"
    )
    # Nearly all ids end at these first, quick tests.
    return (
        F.when(~F.is_valid_utf8(column), f"binary_{column}")
        .when(F.col(column).contains("\0"), f"control_{column}")
        .when(F.col(column).contains(".") | F.col(column).contains("+"), form)
    )


def _join_ids(frame: DataFrame, ids: DataFrame, key: str, flag: str) -> DataFrame:
    """Return `frame` with `flag`: true where `ids` holds the key, else null."""
    # Broadcast: the events need no shuffle for it.
    return frame.join(F.broadcast(ids.select(key, F.lit(True).alias(flag))), key, "left")
