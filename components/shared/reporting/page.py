"""Pages for people: blocks of content, rendered by one template with one stylesheet.

A page is one file that works offline; all text is escaped by the template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jinja2

from components.shared.artifacts.outputs import write_text

FOLDER = Path(__file__).parent

Tone = Literal["", "best", "faint", "good", "warn", "bad"]
_Links = Mapping[str, str] | None  # addresses by the texts that link to them


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a tone or a link."""

    text: str
    tone: Tone = ""
    href: str = ""


class Block:
    """Part of a page."""

    @property
    def kind(self) -> str:
        """Return the name by which the template knows the block."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    text: str
    tone: Tone = ""


class Heading(Text):
    """The heading of a section."""


class Note(Text):
    """A paragraph that stands out: a verdict, a warning."""


class Pre(Text):
    """Text with its own line breaks."""


@dataclass(frozen=True)
class Table(Block):
    """A table of figures (text with `is_text`); without a header, pairs of name and value."""

    header: Sequence[str | Cell]
    rows: Sequence[Sequence[str | Cell]]
    is_text: bool = False


@dataclass(frozen=True)
class Figures(Block):
    """Charts (SVG of `components.shared.reporting.charts`) by their titles, side by side."""

    figures: Mapping[str, str]


@dataclass(frozen=True)
class Details(Block):
    """Blocks that unfold."""

    summary: str
    blocks: Sequence[Block] = ()
    is_open: bool = False


def write(path: Path, title: str, blocks: Sequence[Block], *, lead: str = "", links: _Links = None) -> None:
    """Write the page to `path` atomically; `lead` and `links` stand below and above the title."""
    write_text(path, render(title, blocks, lead=lead, links=links))


def render(title: str, blocks: Sequence[Block], *, lead: str = "", links: _Links = None) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True)
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    template = environment.get_template("page.html")
    return template.render(title=title, blocks=blocks, lead=lead, links=links, style=style)
