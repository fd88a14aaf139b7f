"""Pages: every block, escaped, in one file that needs nothing else."""

import re
from pathlib import Path

import pytest

from components.shared.reporting import charts, markdown, page
from components.shared.reporting.page import (
    Block,
    Cell,
    Details,
    Figures,
    Heading,
    Note,
    Pre,
    Table,
    Text,
)

EVIL = "<b onclick='x'>&"
ESCAPED = "&lt;b onclick=&#39;x&#39;&gt;&amp;"


@pytest.mark.parametrize(
    ("block", "html"),
    [
        pytest.param(Heading(EVIL), f"<h2>{ESCAPED}</h2>", id="heading"),
        pytest.param(Text(EVIL), f"<p>{ESCAPED}</p>", id="text"),
        pytest.param(Text("a", "faint"), '<p class="faint">a</p>', id="text with a tone"),
        pytest.param(Note(EVIL, "bad"), f'<div class="note bad">{ESCAPED}</div>', id="note"),
        pytest.param(Pre(f"{EVIL}\nb"), f"<pre>{ESCAPED}\nb</pre>", id="pre"),
        pytest.param(
            Table(["a", Cell(EVIL, "warn")], [[Cell("x", href="other.html?a=1&b"), EVIL]]),
            f'<div class="scroll"><table><tr><th>a</th><th class="warn">{ESCAPED}</th></tr>'
            '<tr><td><a href="other.html?a=1&amp;b">x</a></td>'
            f"<td>{ESCAPED}</td></tr></table></div>",
            id="table",
        ),
        pytest.param(
            Table([], [["a", "b"]], is_text=True),
            '<table class="text"><tr><td>a</td><td>b</td></tr></table>',
            id="pairs of text",
        ),
        pytest.param(
            Figures({EVIL: "<svg></svg>"}),
            f'<div class="figures"><figure><figcaption>{ESCAPED}</figcaption><svg></svg></figure></div>',
            id="figures",
        ),
        pytest.param(
            Details(EVIL, [Text("in"), Details("deep", [Pre("x")], is_open=True)]),
            f"<details><summary>{ESCAPED}</summary><p>in</p>\n<details open><summary>deep</summary>"
            "<pre>x</pre>\n</details>\n</details>",
            id="details",
        ),
    ],
)
def test_a_block_is_written_and_escaped(block: Block, html: str) -> None:
    assert html in page.render("Title", [block])


def test_a_page_has_title_lead_and_links() -> None:
    html = page.render(EVIL, [], lead=EVIL, links={EVIL: "../b.html"})
    assert f"<title>{ESCAPED}</title>" in html and f"<h1>{ESCAPED}</h1>" in html
    assert f'<p class="lead">{ESCAPED}</p>' in html
    assert f'<nav><a href="../b.html">{ESCAPED}</a></nav>' in html
    assert "<nav>" not in page.render("a", []) and 'class="lead"' not in page.render("a", [])


def test_a_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    mark = charts.Mark(label="a", value=0.1, low=0.0, high=0.2, tone="better")
    blocks = [Figures({"curve": charts.curve([1.0, 2.0]), "bars": charts.intervals([mark])})]
    page.write(tmp_path / "new" / "page.html", "Title", blocks, links={"other": "other.html"})
    html = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 2
    assert not re.search(r"<(script|link|iframe|img|object|embed)\b|@import|url\((?!#)", html)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", html)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"page.html"}


def test_blocks_as_markdown(tmp_path: Path) -> None:
    blocks = [
        Note("*a* <b>\n&", "good"),
        Heading("item_to_item"),
        Text("a"),
        Table(["x|y", ""], [["1", Cell("2", "best")], [Cell("3", "bad"), "4"]]),
    ]
    markdown.write(tmp_path / "summary.md", blocks)
    assert (tmp_path / "summary.md").read_text() == (
        "**\\*a\\* &lt;b> &amp;**\n\n### item\\_to\\_item\n\na\n\n"
        "| x\\|y |  |\n| --- | --- |\n| 1 | **2** |\n| 3 | 4 |\n"
    )
