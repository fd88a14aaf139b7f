"""The task's page: what has changed, what the run is known by, and what was checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.shared.reporting import page
from components.shared.reporting.page import Cell, Heading, Note, Table, Tone
from components.window.preflight import Check, Status

_TONES: dict[Status, Tone] = {"ok": "good", "failed": "bad", "not checked": "faint"}


def write(
    path: Path, verdict: str, run_id: str, as_of: str, lineage: Mapping[str, str], checks: Sequence[Check]
) -> None:
    """Write the page of the run `run_id`."""
    window = {"run key": lineage["run_key"], "as of": as_of or "no end", "pipeline run": run_id}
    page.write(
        path,
        "Data window",
        [
            Note(verdict),
            Table((), list(window.items()), is_text=True),
            Heading("Checked before the run"),
            Table((), [(c.title, Cell(c.status, _TONES[c.status]), c.detail) for c in checks], is_text=True),
            Heading("Lineage"),
            Table((), sorted(lineage.items()), is_text=True),
        ],
    )
