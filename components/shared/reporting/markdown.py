"""Blocks of a page as Markdown, for the Kubeflow UI and MLflow's pages."""

import re
from collections.abc import Sequence
from pathlib import Path

from components.shared.artifacts.outputs import write_text
from components.shared.reporting.page import Cell, Heading, Note, Table, Text


def write(path: Path, blocks: Sequence[Text | Table]) -> None:
    """Write the blocks to `path` atomically."""
    write_text(path, "\n\n".join(map(_block, blocks)) + "\n")


def table(header: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]]) -> str:
    """Return a table; Markdown has none without a header."""
    lines = [[*map(_cell, header)], ["---"] * len(header), *([*map(_cell, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(block: Text | Table) -> str:
    match block:
        case Table():
            return table(block.header, block.rows)
        case Heading():
            return f"### {_plain(block.text)}"
        case Note():
            return f"**{_plain(block.text)}**"
    return _plain(block.text)


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _plain(cell)
    return f"**{_plain(cell.text)}**" if cell.tone == "best" else _plain(cell.text)


def _plain(text: str) -> str:
    """Return `text` on one line, without what Markdown or HTML would read in it."""
    text = re.sub(r"([\\`*_|~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")
