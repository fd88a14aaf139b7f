"""The page that shows what the contracts found."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from components.etl.contracts import Finding, load_suite
from components.shared.reporting.page import Block, Cell, Heading, Note, Table, Text, write


@dataclass
class DataDocs:
    """Counts (heading -> name -> count) and findings, in the order in which they were made."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def blocks(self) -> list[Block]:
        """Return the page's content: a verdict, the counts, and a section per contract."""
        critical = sum(f.is_broken for f in self.findings)
        warnings = sum(not f.success for f in self.findings) - critical
        verdict = (
            f"{len(self.findings)} expectations checked: {critical} critical failures, {warnings} warnings."
        )
        blocks: list[Block] = [Note(verdict, "bad" if critical else "good")]
        for heading, numbers in self.counts.items():
            blocks += [Heading(heading), Table((), [(name, f"{count:,}") for name, count in numbers.items()])]
        for suite in dict.fromkeys(f.suite for f in self.findings):
            meta = load_suite(suite)["meta"]
            rows = [
                (_result(f), f.severity, f.expectation, f.detail) for f in self.findings if f.suite == suite
            ]
            blocks += [
                Heading(f"Contract {suite}, version {meta['version']}"),
                Text(meta["about"]),
                Table(("Result", "Severity", "Expectation", "Found"), rows, is_text=True),
            ]
        return blocks


@contextmanager
def data_docs(path: Path, title: str) -> Iterator[DataDocs]:
    """Yield the page to fill; it is written when the block ends, also by an error, whose cause it shows."""
    docs = DataDocs()
    try:
        yield docs
    finally:
        write(path, title, docs.blocks())


def _result(finding: Finding) -> Cell:
    if finding.success:
        return Cell("holds", "good")
    return Cell("broken", "bad" if finding.is_broken else "warn")
