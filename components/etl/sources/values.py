"""One value of a raw table as its column's type: null words, whole numbers, times, lists."""

from collections.abc import Sequence

import pyarrow as pa
from pyarrow import types
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import ArrayType, DataType, LongType, NumericType, StringType

from components.etl.sources.lists import parse_list

AGES = 0, 120
WHITE = " \t\r\n\u00a0\u2007\u202f\u3000\u200b\ufeff"
"""What does not show around ids: spaces, also those that never break or have no width."""
_CALENDAR = -62_135_596_800, 253_402_300_799
"""Unix seconds of the years 1 to 9999, the ones that Python knows."""
_ISO = (
    r"^(\d{4})(?:-?(\d\d)(?:-?(\d\d))?|-?(\d{3})|-?W(\d\d)(?:-?([1-7]))?)"
    r"(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d))?)?(\.\d+)?(Z|([+-])(\d\d)(?::?(\d\d))?)?)?$"
)
"""Groups: year, month, day; day of the year; week, its day; hour, minute, second, fraction; zone."""


def known(value: Column, found: DataType, null_words: Sequence[str]) -> Column:
    """Return `value`, null where it is one of `null_words` in lower, upper or title case."""
    if not isinstance(found, StringType) or not null_words:
        return value
    words = {form for word in null_words for form in (word, word.lower(), word.upper(), word.title())}
    return F.when(~F.trim(value).isin(*sorted(words), "NaN", "NaT"), value)


def known_items(values: Column, field: pa.Field, null_words: Sequence[str]) -> Column:
    """Return the list `values` of `field` with its blank items and `null_words` as nulls.

    An optional list goes without them; one that is required has a fault.
    """
    if types.is_string(field.type.value_type):
        values = F.transform(values, lambda item: _known_item(item, null_words))
    return F.array_compact(values) if field.nullable else values


def _known_item(item: Column, null_words: Sequence[str]) -> Column:
    item = F.btrim(F.make_valid_utf8(item), F.lit(WHITE))
    return known(F.when(item != "", item), StringType(), null_words)


def may_fail(found: DataType, field: pa.Field) -> bool:
    """Return whether `cast` may give null for a value that is none."""
    if types.is_string(field.type):
        return False
    if types.is_list(field.type):
        return isinstance(found, StringType)
    has_bounds = types.is_floating(field.type) or (types.is_timestamp(field.type) and field.nullable)
    return has_bounds or found != from_arrow_type(field.type)


def cast(
    value: Column, found: DataType, field: pa.Field, stored: pa.DataType | None, separator: str | None
) -> Column:
    """Return `value`, of Spark's type `found`, as the type of `field`; null where that fails.

    `stored` is its type in Parquet; `separator` is what stands between the items of lists in texts,
    None if that is ambiguous.
    """
    is_text = isinstance(found, StringType)
    if types.is_list(field.type):
        if is_text:
            return parse_list(value, separator).try_cast(from_arrow_type(field.type))
        values = value if isinstance(found, ArrayType) else F.array(value)
        return values.try_cast(from_arrow_type(field.type))
    if types.is_string(field.type):
        if not is_text:
            return F.regexp_replace(value.cast("string"), r"\.0$", "")
        # Ids and actions stay as they are: two of them might become the same.
        return value if field.name.endswith(("_id", "action")) else F.make_valid_utf8(value)
    if types.is_timestamp(field.type):
        time = _as_time(value, found, stored)
        # Of events a far time is a fault with a name. Milliseconds read as seconds end in the year 50000.
        return F.when(F.unix_seconds(time).between(*_CALENDAR), time) if field.nullable else time
    if types.is_integer(field.type):
        whole = value.try_cast("decimal(38,6)")
        exact = F.when(whole == F.floor(whole), whole).try_cast(from_arrow_type(field.type))
        number = exact if not is_text else F.coalesce(value.try_cast(from_arrow_type(field.type)), exact)
        # -1 and 999 stand for unknown.
        return F.when(number.between(*AGES), number) if field.name == "age" else number
    number = value.try_cast(from_arrow_type(field.type))
    return F.when((number >= 0) & (number < float("inf")), number)  # NaN is larger than any number


def labelled(name: str) -> Column:
    """Return the column `name` as "name=value"."""
    return F.concat(F.lit(f"{name}="), F.col(name).cast("string"))


def _as_time(value: Column, found: DataType, stored: pa.DataType | None) -> Column:
    if isinstance(found, StringType):
        return parse_time(value)
    if isinstance(found, LongType) and stored is not None and types.is_timestamp(stored):  # nanoseconds
        return F.timestamp_micros(F.call_function("div", value, F.lit(1000)))
    if isinstance(found, NumericType):  # Unix seconds
        return F.timestamp_micros((value.try_cast("decimal(20,6)") * 1_000_000).try_cast("long"))
    return value.try_cast("timestamp")


def in_seconds(value: Column, unit: str) -> Column:
    """Return the text of a time; a number of `unit` ("ms", "us") as seconds."""
    text = value.cast("string")
    number = F.when(text.rlike(r"^\s*-?\d+(\.\d*)?([eE]\+?\d+)?\s*$"), text.try_cast("decimal(30,3)"))
    per_second = {"ms": 1_000, "us": 1_000_000}[unit]
    # Its point keeps the number from being read as a day.
    return F.coalesce((number / per_second).cast("decimal(30,6)").cast("string"), text)


def parse_time(text: Column) -> Column:
    """Return the time of a text: ISO 8601, a day as digits, or Unix seconds."""
    # 2025 is a year and 20250101 a day, not seconds of 1970; 12:30 has no day.
    is_date = text.rlike(r"^\s*(\d{4}|\d{8})\s*$")
    seconds = F.when(~is_date, text.try_cast("decimal(20,6)"))
    usual = F.when(text.rlike(r"^\s*\d{4}-"), text.try_cast("timestamp"))
    # Few rows need the long way. A lambda keeps it out of the generated code, which may not pass 64 KB.
    rare = F.element_at(F.transform(F.array(text), _iso_time), 1)
    return F.coalesce(F.timestamp_micros((seconds * 1_000_000).try_cast("long")), usual, rare)


def _iso_time(text: Column) -> Column:
    plain = F.translate(F.upper(F.trim(text)), "\u2212,", "-.")
    plain = F.when(plain.rlike(r"^\d{4}$"), F.concat(plain, F.lit("-01"))).otherwise(plain)

    def part(group: int, default: str = "0") -> Column:
        found = F.regexp_extract(plain, _ISO, group)
        return F.when(found == "", default).otherwise(found).try_cast("long")

    def given(group: int) -> Column:
        return F.regexp_extract(plain, _ISO, group) != ""

    year = F.regexp_extract(plain, _ISO, 1)
    january = F.concat(year, F.lit("-01-01")).try_cast("date")
    monday = F.trunc(F.date_add(january, 3), "week")  # of the week with January 4th
    month, day = (F.lpad(part(group, "1").cast("string"), 2, "0") for group in (2, 3))
    in_week = F.date_add(monday, (7 * (part(5) - 1) + part(6, "1") - 1).cast("int"))
    in_year = F.date_add(january, (part(4) - 1).cast("int"))
    date = (
        F.when(given(5), F.when(F.weekofyear(in_week) == part(5), in_week))
        .when(given(4), F.when(F.year(in_year) == year, in_year))
        .otherwise(F.concat_ws("-", year, month, day).try_cast("date"))
    )
    hour, minute, second = part(7), part(8), part(9)
    unit = F.when(given(9), 1).when(given(8), 60).otherwise(3600)
    fraction = F.concat(F.lit("0"), F.regexp_extract(plain, _ISO, 10)).try_cast("double") * unit
    sign = F.when(F.regexp_extract(plain, _ISO, 12) == "-", -1).otherwise(1)
    offset = sign * (part(13) * 3600 + part(14) * 60)
    of_day = hour * 3600 + minute * 60 + second
    is_time = (of_day <= 86_400) & (minute < 60) & (second <= 60) & (part(13) <= 18) & (part(14) < 60)
    seconds = F.unix_date(date).cast("long") * 86_400 + of_day - offset
    micros = seconds * 1_000_000 + F.floor(fraction * 1_000_000)
    return F.when(plain.rlike(_ISO) & is_time, F.timestamp_micros(micros))
