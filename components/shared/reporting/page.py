"""Pages for people: blocks of content, rendered by one template with one stylesheet.

A page is one file that works offline; all text is escaped by the template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import jinja2

from components.shared.artifacts.outputs import write_text

FOLDER = Path(__file__).parent

Tone = Literal["", "best", "faint", "good", "warn", "bad"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a tone or a link."""

    text: str
    tone: Tone = ""
    href: str = ""


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Note:
    """A paragraph that stands out: a verdict, a warning."""

    kind: ClassVar = "note"
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Bullets:
    """A list."""

    kind: ClassVar = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Pre:
    """Text whose line breaks count."""

    kind: ClassVar = "pre"
    text: str


@dataclass(frozen=True)
class Cards:
    """Large figures with a caption each."""

    kind: ClassVar = "cards"
    cards: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table of figures, or of text with `is_text`; without a header, pairs of name and value."""

    kind: ClassVar = "table"
    header: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Figures:
    """Charts (SVG of `components.shared.reporting.charts`) by their titles, side by side."""

    kind: ClassVar = "figures"
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Details:
    """Blocks that unfold."""

    kind: ClassVar = "details"
    summary: str
    blocks: Sequence["Block"] = field(default_factory=tuple)
    is_open: bool = False


Block = Heading | Text | Note | Bullets | Pre | Cards | Table | Figures | Details


def render(
    title: str, blocks: Sequence[Block], *, lead: str = "", links: Mapping[str, str] | None = None
) -> str:
    """Return the page as HTML; `links` maps texts to addresses, shown above the title."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True)
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        title=title, blocks=blocks, lead=lead, links=links or {}, style=style
    )


def write(
    path: Path,
    title: str,
    blocks: Sequence[Block],
    *,
    lead: str = "",
    links: Mapping[str, str] | None = None,
) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(title, blocks, lead=lead, links=links))
