"""The expectation suites of data_contracts/expectations on Spark frames, and the page of what they found."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

import data_contracts
from components.shared.errors import ContractError
from components.shared.logs import logger
from components.shared.reporting.page import Block, Cell, Heading, Note, Table, Text, write

SUITES = Path(data_contracts.__file__).parent / "expectations"
SAMPLES, SAMPLE_CHARS = 5, 200


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one expectation; `detail` is for people: the observed value, or counts and samples."""

    suite: str
    expectation: str
    severity: str
    success: bool
    detail: str

    @property
    def is_broken(self) -> bool:
        """Return whether a critical expectation failed."""
        return not self.success and self.severity == "critical"

    @property
    def verdict(self) -> Cell:
        """Return the verdict as the data docs show it."""
        if self.success:
            return Cell("holds", "good")
        return Cell("broken", "bad" if self.is_broken else "warn")


@dataclass
class DataDocs:
    """Counts (heading -> name -> count), examples and findings, in the order they were made."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    examples: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    """What was refused, such as which row, and what to do about it, by the heading of `counts`."""

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
            if examples := self.examples.get(heading):
                blocks.append(Table(("What", "Such as", "What to do"), examples, is_text=True))
        for suite in dict.fromkeys(f.suite for f in self.findings):
            meta = load_suite(suite)["meta"]
            rows = [
                (f.verdict, f.severity, f.expectation, f.detail) for f in self.findings if f.suite == suite
            ]
            blocks += [
                Heading(f"Contract {suite}, version {meta['version']}"),
                Text(meta["about"]),
                Table(("Result", "Severity", "Expectation", "Found"), rows, is_text=True),
            ]
        return blocks


@contextmanager
def data_docs(path: Path, title: str) -> Iterator[DataDocs]:
    """Yield the page to fill; it is written even on error, to show its cause."""
    docs = DataDocs()
    try:
        yield docs
    finally:
        write(path, title, docs.blocks())
        logger("data docs").info(f"what was found is in {path}")


def load_suite(name: str) -> dict[str, Any]:
    """Return the suite `name`: its name, meta (version, what it is about) and expectations."""
    return json.loads((SUITES / f"{name}.json").read_text(encoding="utf-8"))


def validate(frame: DataFrame, name: str, parameters: Mapping[str, Any] | None = None) -> list[Finding]:
    """Return the findings of the suite `name` on `frame`; `parameters` fill its {"$PARAMETER": …}."""
    suite = load_suite(name)
    # One aggregating pass for all expectations; only failed ones run again, for counts and sample values.
    results = _run(frame, suite, parameters, "BOOLEAN_ONLY")
    failed = [e for e, r in zip(suite["expectations"], results, strict=True) if not r.success]
    details = iter(_run(frame, {**suite, "expectations": failed}, parameters, "SUMMARY") if failed else [])
    return [
        Finding(
            suite=name,
            expectation=_describe(expectation, parameters),
            severity=expectation["severity"],
            success=result.success,
            detail="" if result.success else _detail(next(details)),
        )
        for expectation, result in zip(suite["expectations"], results, strict=True)
    ]


def check(docs: DataDocs, name: str, frame: DataFrame, parameters: Mapping[str, Any] | None = None) -> None:
    """Add the findings of the suite `name` on `frame` to `docs`.

    Raises ContractError, with counts and sample rows (with a `fault`, if there is such a column): a critical
    expectation failed.
    """
    findings = validate(frame, name, parameters)
    docs.findings += findings
    if broken := [f for f in findings if f.is_broken]:
        listed = "; ".join(f"{f.expectation}: {f.detail}" for f in broken)
        faulty = frame.where("fault is not null") if "fault" in frame.columns else frame
        rows = faulty.limit(SAMPLES).select(F.to_json(F.struct(*faulty.columns)).alias("row")).collect()
        samples = "; sample rows: " + " ".join(row.row[:SAMPLE_CHARS] for row in rows) if rows else ""
        raise ContractError(f"contract '{name}' is broken: {listed}{samples}")


def _run(
    frame: DataFrame,
    suite: Mapping[str, Any],
    parameters: Mapping[str, Any] | None,
    result_format: Literal["BOOLEAN_ONLY", "SUMMARY"],
) -> list[Any]:
    # It would log hundreds of lines about what it registers as it is imported.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # It tells everybody about a temporary folder for each suite, at a level of its own.
    logging.getLogger(ProgressBarsConfig.__module__).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # persist=False: the default would keep the whole frame in memory after the check.
    asset = context.data_sources.add_spark("spark", persist=False).add_dataframe_asset(suite["name"])
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    # Great Expectations may return results in another order, so each expectation carries its number.
    expectations = [
        {**e, "meta": {**e.get("meta", {}), "number": n}} for n, e in enumerate(suite["expectations"])
    ]
    result = batch.validate(
        gx.ExpectationSuite(name=suite["name"], expectations=expectations),
        expectation_parameters=dict(parameters or {}),
        result_format=result_format,
    )
    results: list[Any] = result.results
    by_number = {r.expectation_config.meta["number"]: r for r in results}
    for number, found in by_number.items():
        if message := _exception(found.exception_info or {}):
            described = _describe(expectations[number], parameters)
            raise ContractError(f"contract '{suite['name']}': {described} cannot run: {message}")
    return [by_number[n] for n in range(len(expectations))]


def _exception(info: Mapping[str, Any]) -> str:
    """Return the error message of an expectation or its metrics; "" if none raised."""
    infos = [info, *(value for value in info.values() if isinstance(value, dict))]
    return next((i["exception_message"] for i in infos if i.get("raised_exception")), "")


def _describe(expectation: Mapping[str, Any], parameters: Mapping[str, Any] | None) -> str:
    def value(given: Any) -> Any:
        return (parameters or {}).get(given["$PARAMETER"]) if isinstance(given, dict) else given

    kwargs = {k: value(v) for k, v in expectation["kwargs"].items() if v is not None}
    return f"{expectation['type']}({', '.join(f'{k}={v!r}' for k, v in kwargs.items())})"


def _detail(result: Any) -> str:
    found = result.result
    if "unexpected_count" in found:
        listed = list(dict.fromkeys(map(str, found.get("partial_unexpected_list", []))))[:SAMPLES]
        values = f", such as {', '.join(listed)}" if listed else ""
        return f"{found['unexpected_count']:,} of {found['element_count']:,} rows{values}"
    return f"observed {found.get('observed_value')}"
