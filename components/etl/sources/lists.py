"""Lists in texts: their items in any notation, and what separates them in a column without one."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

LIST_SEPARATOR = "|"
MARKS = ",;\uff0c\u3001\uff1b"
"""Separators, where no cell of the column has LIST_SEPARATOR; the last three are Chinese."""
# Python, numpy and Scala write a name before the brackets: `array(['a', 'b'], dtype=object)`.
_NAMES = r"(?:(?:np|numpy)\.)?(?:array|arraybuffer|arrayseq|wrappedarray|frozenset|list|seq|set|tuple|vector)"
_TWICE = r"(?is)^\s*[\w.]+\(\s*(\[.*\]|\(.*\)|\{.*\})\s*(?:,\s*\w+=[^()\[\]{}]*)*\)\s*$"
_ONCE = rf"(?is)^\s*{_NAMES}(\(.*\))\s*$"
_QUOTED = r"""\s*(?:"[^"]*"|'[^']*')\s*"""
_ENCLOSED = rf"(?is)^\s*(?:(?:{_NAMES})?\(.*\)|\[.*\]|\{{.*\}}|{_QUOTED}(?:,{_QUOTED})*)\s*$"
_UNCLOSED = r"""^\s*[\[({]\s*['"]|['"]\s*[\])}]\s*$"""
_SEVERAL = r"""(?s)^\s*\[.*\]\s*\[.*\]\s*$"""
_IN_JSON = r"""(?s)^\s*"\s*\[.*\\".*\]\s*"\s*$"""  # a list that was written as JSON twice
_NO_NAME = r"""["'\[\](){}:=|]|\.\.\."""  # what a name outside quotes does not hold; numpy shortens by dots
_JSON = {"allowSingleQuotes": "true", "allowBackslashEscapingAnyCharacter": "true"}


def separators(frame: DataFrame, names: Sequence[str]) -> dict[str, str | None]:
    """Return the list separator of each text column; None where it is ambiguous.

    A comma or semicolon may also be part of a name ("Home, Garden & Tools"): it separates only where no cell
    of the column has the contract's "|" or another such mark, and no space follows.
    """
    texts = [n for n in names if n in frame.columns and isinstance(frame.schema[n].dataType, StringType)]
    if not texts:
        return {}
    counts = []
    for name in texts:
        plain = F.when(~F.col(name).rlike(_ENCLOSED) & ~F.col(name).rlike(_TWICE), F.col(name))
        is_there = {mark: F.contains(plain, F.lit(mark)) for mark in LIST_SEPARATOR + MARKS}
        is_there[" "] = plain.rlike(r"[,;]\s")
        counts += [F.coalesce(F.bool_or(f), F.lit(False)).alias(name + mark) for mark, f in is_there.items()]
    row = frame.agg(*counts).collect()[0]
    return {name: _separator([m for m in LIST_SEPARATOR + MARKS + " " if row[name + m]]) for name in texts}


def _separator(marks: Sequence[str]) -> str | None:
    """Return what separates a column's items; of its `marks`, " " stands behind another."""
    if not marks or LIST_SEPARATOR in marks:
        return LIST_SEPARATOR
    return marks[0] if len(marks) == 1 else None


def parse_list(text: Column, separator: str | None) -> Column:
    """Return the items of a list in any notation, or separated by `separator`.

    The list is null if it is ambiguous, an item if the notation says so.
    """
    text = F.when(text.rlike(_IN_JSON), _json(text)[0]).otherwise(text)
    text = F.regexp_replace(F.regexp_replace(text, _TWICE, "$1"), _ONCE, "$1")
    separated = _split(text, separator or LIST_SEPARATOR)
    separated = F.when(~text.rlike(_UNCLOSED), separated)
    if separator is None:
        separated = F.when(~text.rlike(f"[{MARKS}]"), separated)
    is_empty = F.trim(text) == ""
    return (
        F.when(text.rlike(_ENCLOSED), F.when(~text.rlike(_SEVERAL), _enclosed(text)))
        .when(~is_empty, separated)
        .otherwise(F.when(is_empty, F.array().cast("array<string>")))
    )


def _enclosed(text: Column) -> Column:
    """Return the items of a list in brackets or quotes."""
    inner = F.regexp_replace(text, r"(?s)^\s*[\[({]\s*|\s*,?\s*[\])}]\s*$", "")
    inner = F.regexp_replace(inner, r"""(["'])[ \n]+(["'])""", "$1, $2")  # as numpy writes arrays
    # Python's words and prefixes of texts; Postgres quotes only what needs it: {tea,"green tea",NULL}.
    python = F.regexp_replace(inner, r"(^|,)\s*(?:None|nan|NaN|NULL|<NA>)\s*(?=,|$)", "$1null")
    python = F.regexp_replace(python, r"""(^|,\s*)[uUbB](?=["'])""", "$1")
    words = F.regexp_replace(python, r"""(^|,)(?!null(?:,|$))([^\s"'{}:=,][^"'{}:=,]*)(?=,|$)""", '$1"$2"')
    quoted = F.coalesce(_json(inner), _json(python), F.when(F.startswith(text, F.lit("{")), _json(words)))
    is_flat = ~F.exists(quoted, lambda item: F.coalesce(item.rlike(r"^\s*[\[{]"), F.lit(False)))
    bare = F.when(inner.rlike(r"^\d+(\s+\d+)+$"), F.split(inner, r"\s+")).when(
        ~inner.rlike(_NO_NAME), F.split(inner, r"\s*,\s*")
    )
    # "(a) b|(c)" is not in brackets, "[a|b]" is.
    is_whole = ~inner.rlike(r"[\[\](){}]")
    barred = F.when(is_whole, _split(inner, "|")).otherwise(_split(text, "|"))
    return F.coalesce(F.when(is_flat, quoted), bare, F.when(F.contains(text, F.lit("|")), barred))


def _json(inner: Column) -> Column:
    return F.from_json(F.concat(F.lit("["), inner, F.lit("]")), "array<string>", _JSON)


def _split(text: Column, separator: str) -> Column:
    """Return the items of `text`, without spaces and quotes around them."""
    items = F.split(text, rf"\{separator}")
    return F.transform(items, lambda i: F.regexp_replace(F.trim(i), r"""^(["'])([^"']*)\1$""", "$2"))
