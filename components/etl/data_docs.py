"""The page that shows a person what the contracts found: one self-contained HTML file."""

import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from components.etl.contracts import Finding, load_suite
from components.shared.artifacts.outputs import write_text

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;
color:#1c2330;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}p.about{color:#556}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #e3e6ec;vertical-align:top}th{font-weight:600;background:#f5f6f9}
td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:.9em;word-break:break-word}.ok{color:#1a7f4b}
.bad{color:#b42318;font-weight:600}.warn{color:#9a6700;font-weight:600}
.verdict{padding:.6rem 1rem;border-radius:.4rem;background:#eef7f1}.verdict.bad{background:#fdf0ee}
"""


@dataclass
class DataDocs:
    """What goes onto the page, in the order in which it was found."""

    title: str
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # heading -> name -> count

    def render(self) -> str:
        """Return the page."""
        suites = list(dict.fromkeys(f.suite for f in self.findings))
        body = [f"<h1>{html.escape(self.title)}</h1>", self._verdict()]
        for heading, numbers in self.counts.items():
            body.append(_counts(heading, numbers))
        for suite in suites:
            body.append(_suite(suite, [f for f in self.findings if f.suite == suite]))
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{html.escape(self.title)}</title><style>{STYLE}</style></head>'
            f"<body>{''.join(body)}</body></html>\n"
        )

    def _verdict(self) -> str:
        critical = sum(not f.success and f.severity == "critical" for f in self.findings)
        warnings = sum(not f.success and f.severity != "critical" for f in self.findings)
        kind = " bad" if critical else ""
        return (
            f'<p class="verdict{kind}">{len(self.findings)} expectations checked: '
            f"{critical} critical failures, {warnings} warnings.</p>"
        )


@contextmanager
def data_docs(path: Path, title: str) -> Iterator[DataDocs]:
    """Yield a page to fill; it is written when the block ends, also by an error: then it shows the cause."""
    docs = DataDocs(title)
    try:
        yield docs
    finally:
        write_text(path, docs.render())


def _suite(name: str, findings: list[Finding]) -> str:
    meta: Mapping[str, str] = load_suite(name)["meta"]
    rows = "".join(
        f"<tr><td>{_mark(f)}</td><td>{html.escape(f.severity)}</td><td><code>{html.escape(f.expectation)}</code></td>"
        f"<td>{html.escape(f.detail)}</td></tr>"
        for f in findings
    )
    return (
        f"<h2>Contract {html.escape(name)}, version {html.escape(meta['version'])}</h2>"
        f'<p class="about">{html.escape(meta["about"])}</p><table><tr><th>Result</th><th>Severity</th>'
        f"<th>Expectation</th><th>Found</th></tr>{rows}</table>"
    )


def _mark(finding: Finding) -> str:
    if finding.success:
        return '<span class="ok">holds</span>'
    kind = "bad" if finding.severity == "critical" else "warn"
    return f'<span class="{kind}">broken</span>'


def _counts(heading: str, numbers: Mapping[str, int]) -> str:
    rows = "".join(f'<tr><td>{html.escape(n)}</td><td class="n">{c:,}</td></tr>' for n, c in numbers.items())
    return f"<h2>{html.escape(heading)}</h2><table>{rows}</table>"
