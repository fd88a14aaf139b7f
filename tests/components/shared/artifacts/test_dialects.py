"""CSV dialects: detected per file, confirmed to the last line, mixtures refused."""

import io

import pytest

from components.shared.artifacts.dialects import Dialect, confirmed, detect
from components.shared.errors import DataError

NAMES = ("item_id", "title", "brand")


def is_header(names: list[str]) -> bool:
    return set(NAMES) <= set(names)


def rows(*lines: str, header: str = "item_id,title,brand") -> str:
    return "\n".join([header, *lines]) + "\n"


def found(text: str) -> Dialect:
    return confirmed(io.StringIO(text, newline=""), "items.csv", detect(text[:8192], is_header))


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        pytest.param(rows("1,Tea,b"), Dialect(), id="plain"),
        pytest.param(rows('1,"A ""big"" box, red",b', '2,"x",b'), Dialect(), id="doubled quotes"),
        pytest.param(
            rows(*(f'{n},"He said \\"hi\\", {n}",b' for n in range(9))),
            Dialect(escape="\\"),
            id="Spark's quotes",
        ),
        pytest.param(
            rows(*(f"{n},plain,b" for n in range(3000)), '1,"He said \\"hi\\", he",b'),
            Dialect(escape="\\"),
            id="Spark's quotes after the sample",
        ),
        pytest.param(
            rows(*(f"{n},'Tea, green',b" for n in range(9))), Dialect(",", "'", "'"), id="single quotes"
        ),
        pytest.param(rows(*(f"{n},it's tea,b" for n in range(9))), Dialect(), id="apostrophes"),
        pytest.param(
            rows("1;Tea, green;b", header="item_id;title;brand"),
            Dialect(";"),
            id="semicolons, commas in titles",
        ),
        pytest.param(rows("1\tTea\tb", header="\t".join(NAMES)), Dialect("\t"), id="tabs"),
        pytest.param(rows("1|Tea|b", header='"item_id"|"title"|"brand"'), Dialect("|"), id="bars"),
        pytest.param(rows(*(f'{n},"C:\\dir\\",b' for n in range(9))), Dialect(), id="backslashes at the end"),
        pytest.param(rows('1,"first\nsecond ""line""",b'), Dialect(), id="lines within quotes"),
        pytest.param(rows(), Dialect(), id="header alone"),
        pytest.param("", Dialect(), id="nothing"),
    ],
)
def test_dialects_are_detected(text, dialect):
    assert found(text) == dialect


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            rows(*(f'{n},"a ""b"" c",b' for n in range(4000)), '1,"a \\"b\\" c",b'),
            r"two ways, .*line 4002.*line 2|two ways, .*line 2.*line 4002",
            id="two kinds of quotes",
        ),
        pytest.param(
            rows(*(f"{n},Tea,b" for n in range(500)), *(f"{n};Tea;b" for n in range(500))),
            "500 of 1,001 lines are separated by ';', the header by ','",
            id="two separators",
        ),
    ],
)
def test_mixtures_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        found(text)


def test_rows_are_read_as_detected():
    for dialect, line in (
        (Dialect(escape="\\"), '1,"He said \\"hi\\", he",b'),
        (Dialect(";", "'", "'"), "1; 'He said \"hi\", he'; b"),
        (Dialect(";", "'", "'"), "1;'He said \"hi\", he';b"),
    ):
        assert next(dialect.reader([line])) == ["1", 'He said "hi", he', "b"]
