"""Words that exports write where a value is missing."""

NULL_WORDS = (
    "nan",
    "-nan",
    "null",
    "(null)",
    "none",
    "nil",
    "nat",
    "n/a",
    "#n/a",
    "na",
    "<na>",
    "undefined",
    "\\N",
)
"""Read as nulls in every column, in lower, upper or title case (pandas, Hive, MySQL, JavaScript, Excel)."""
