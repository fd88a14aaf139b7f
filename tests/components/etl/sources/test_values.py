"""Single values: times in every form of ISO 8601, lists in every notation, one Spark job each."""

from datetime import UTC, datetime

from pyspark.sql import functions as F

from components.etl.sources import values
from components.etl.sources.lists import parse_list, separators
from data_contracts.null_words import NULL_WORDS
from data_contracts.tables import RAW

MOMENT = datetime(2025, 1, 5, 16, 46, tzinfo=UTC)
DAY = datetime(2025, 1, 5, tzinfo=UTC)
TIMES = {
    "2025-01-05T16:46:00Z": MOMENT,
    "2025-01-05T16:46Z": MOMENT,
    "2025-01-05 16:46": MOMENT,
    "20250105T164600Z": MOMENT,
    "20250105T1646Z": MOMENT,
    "20250105T16:46:00+00:00": MOMENT,
    "2025-01-05t16:46:00z": MOMENT,
    "2025-01-05T16:46:00,000Z": MOMENT,
    "2025-01-05T16:46:00.000000000Z": MOMENT,
    "2025-01-05T17:46:00+01:00": MOMENT,
    "2025-01-05T17:46:00+0100": MOMENT,
    "2025-01-05T17:46:00+01": MOMENT,
    "2025-01-05T15:46:00\u221201:00": MOMENT,
    "2025-01-05 16:46:00 UTC": MOMENT,
    "2025-W01-7T16:46Z": MOMENT,
    "2025W017T1646Z": MOMENT,
    "2025-005T16:46Z": MOMENT,
    "2025-01-05T16.766666666667Z": MOMENT.replace(microsecond=0),
    " 2025-01-05 ": DAY,
    "20250105": DAY,
    "2025-W01-7": DAY,
    "2025-005": DAY,
    "2025-01-04T24:00Z": DAY,
    "2025-01-04T23:59:60Z": DAY,
    "1736035200": DAY,
    "1736035200.0": DAY,
    "2025-01": datetime(2025, 1, 1, tzinfo=UTC),
    "2025": datetime(2025, 1, 1, tzinfo=UTC),
    "2024-366": datetime(2024, 12, 31, tzinfo=UTC),
}
NO_TIMES = (
    *("yesterday", "12:30", "", "0000-00-00", "0000-00-00 00:00:00", "2025-13-01", "2025-02-30", "20251301"),
    *(
        "2025-01-05T25:00",
        "2025-01-05T16:60",
        "2025-366",
        "2025-W54-1",
        "2025-01-05T",
        "5/1/2025",
        "20250101000000",
    ),
    *("2025-W53-1", "2025-01-05T16:46+25:00", "2025-01-04T24:00:01Z"),
)
LISTS = {  # text -> items if the column separates by "|", by ",", or by an ambiguous mark
    "a": (["a"], ["a"], ["a"]),
    "a|b": (["a", "b"], ["a|b"], ["a", "b"]),
    "a | b": (["a", "b"], ["a | b"], ["a", "b"]),
    "a,b": (["a,b"], ["a", "b"], None),
    "Home, Garden & Tools": (["Home, Garden & Tools"], ["Home", "Garden & Tools"], None),
    "": (None, None, None),
    "['a', 'b']": (["a", "b"],) * 3,
    '["a", "b"]': (["a", "b"],) * 3,
    '["it\'s", "b"]': (["it's", "b"],) * 3,
    "['it\\'s']": (["it's"],) * 3,
    "['a|b', 'c']": (["a|b", "c"],) * 3,
    "['a' 'b']": (["a", "b"],) * 3,
    "('a', 'b')": (["a", "b"],) * 3,
    "('a',)": (["a"],) * 3,
    "{a,b}": (["a", "b"],) * 3,
    "[green tea, tea]": (["green tea", "tea"],) * 3,
    "[1, 2]": (["1", "2"],) * 3,
    "[]": ([],) * 3,
    "[{'id': 1}]": (None,) * 3,
    "[['a']]": (None,) * 3,
    "[None, 'a']": ([None, "a"],) * 3,
    '["tea", null]': (["tea", None],) * 3,
    "['None, or nan, or', nan]": (["None, or nan, or", None],) * 3,
    "array([u'a', b'b'], dtype=object)": (["a", "b"],) * 3,
    "[1 2\n 30]": (["1", "2", "30"],) * 3,
    "[1 2 ... 30]": (None,) * 3,
    "WrappedArray(green tea, tea)": (["green tea", "tea"],) * 3,
    "frozenset({'a'})": (["a"],) * 3,
    "set()": ([],) * 3,
    '{tea,"green, tea",NULL}': (["tea", "green, tea", None],) * 3,
    "{id=1, name=tea}": (None,) * 3,
    '"a", "b"': (["a", "b"],) * 3,
    "[a|b]": (["a", "b"],) * 3,
    "(a) b|(c)": (["(a) b", "(c)"],) * 3,
    '"a"|b': (["a", "b"], ['"a"|b'], ["a", "b"]),
    "['a', 'b'": (None,) * 3,
    '["a", b]': (None,) * 3,
    "Tea, (green)": (["Tea, (green)"], ["Tea", "(green)"], None),
    "OrderedSet(['a', 'b'])": (["a", "b"],) * 3,
    "pd.Index([1, 2], dtype='int64', name='id')": (["1", "2"],) * 3,
    '"[\\"a\\", \\"b|c\\"]"': (["a", "b|c"],) * 3,
    '["a", "b"] ["c"]': (None,) * 3,
    "茶、绿茶": (["茶、绿茶"], ["茶、绿茶"], None),
}


def test_times_in_every_form_are_read(spark):
    texts = [*TIMES, *NO_TIMES]
    frame = spark.createDataFrame([(n, text) for n, text in enumerate(texts)], "n int, text string")
    seconds = F.round(F.unix_micros(values.parse_time(F.col("text"))) / 1e6).cast("long")
    found = dict(frame.select("n", seconds).collect())
    expected = [int(TIMES[text].timestamp()) if text in TIMES else None for text in texts]
    assert {text: found[n] for n, text in enumerate(texts)} == dict(zip(texts, expected, strict=True))


def test_lists_in_every_notation_are_read(spark):
    frame = spark.createDataFrame([(text,) for text in LISTS], "text string")
    parsed = [parse_list(F.col("text"), separator).alias(str(separator)) for separator in ("|", ",", None)]
    found = {row[0]: tuple(row)[1:] for row in frame.select("text", *parsed).collect()}
    found[""] = tuple(items or None for items in found[""])
    assert found == LISTS


def test_words_for_null_are_left_out_of_optional_lists_and_stay_nulls_in_required_ones(spark):
    frame = spark.createDataFrame([(["a ", "NULL", "", None, "nan"],)], "items array<string>")
    optional, required = (
        RAW[table].field(name) for table, name in (("users", "interests"), ("exposures", "item_ids"))
    )
    read = [values.known_items(F.col("items"), field, NULL_WORDS) for field in (optional, required)]
    assert list(frame.select(*read).collect()[0]) == [["a"], ["a", None, None, None, None]]


def test_separators_are_those_of_the_whole_column(spark):
    columns = {
        "bars": ["a|b", "Home, Garden"],
        "commas": ["a,b", "['c, d']"],
        "spaced": ["a, b", "c"],
        "semicolons": ["a;b", "c"],
        "both": ["a;b", "c,d"],
        "chinese": ["茶\uff0c绿茶", "deque(['a', 'b'])"],
        "single": ["a", "b"],
    }
    frame = spark.createDataFrame(list(zip(*columns.values(), strict=True)), list(columns))
    assert separators(frame, list(columns)) == {
        "bars": "|",
        "commas": ",",
        "spaced": None,
        "semicolons": ";",
        "both": None,
        "chinese": "\uff0c",
        "single": "|",
    }
