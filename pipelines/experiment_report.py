"""An experiment's report: all variants side by side, as a page and as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluate.config import CHALLENGER
from components.shared.artifacts.outputs import write_json
from data_contracts.evaluation import GLOSSARY, EvaluationReport

METRICS = ("ndcg@10", "recall@10", "ilad", "novelty")
_RANKING, _ANSWERS = ("NDCG@10", "interval", "Recall@10", "ILAD", "Novelty"), ("valid", "tokens")
HEADERS = (*_RANKING, *_ANSWERS, "ranks as SFT", "reasoning ignored", "alarms")

NOT_RUN = "not run yet"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a variant changes in the profile, and what came of it: a report, or the cause of there being none.

    `page` is the evaluation's page, relative to the experiment's folder.
    """

    changes: Mapping[str, Any]
    report: EvaluationReport | None = None
    page: str = ""
    missing: str = NOT_RUN


def write(folder: Path, name: str, question: str, variants: Mapping[str, Variant]) -> None:
    """Write `report.html` and `report.json` into `folder`."""
    reports = {title: variant.report for title, variant in variants.items() if variant.report}
    rows = {title: row_of(report) for title, report in reports.items()}
    missing = {title: variant.missing for title, variant in variants.items() if not variant.report}
    made_from = {
        title: {"changes": variants[title].changes, "page": variants[title].page, "lineage": report.lineage}
        for title, report in reports.items()
    }
    write_json(
        folder / "report.json",
        {
            "experiment": name,
            "question": question,
            "model": CHALLENGER,
            "variants": rows,
            "made_from": made_from,
            "missing": missing,
        },
    )
    _write_page(folder / "report.html", name, question, variants, rows, missing)


def row_of(report: EvaluationReport) -> dict[str, Any]:
    """Return the metrics of the trained model."""
    model, sft = report.comparator(CHALLENGER), report.comparator("sft")
    if model is None:
        raise ValueError(f"the report has no '{CHALLENGER}'")
    interval, answers = model.ndcg_at_10_interval, model.answers
    return {
        **{metric: model.metrics[metric] for metric in METRICS},
        "ndcg@10_interval": [interval.low, interval.high],
        "valid_share": answers.valid_share if answers else None,
        "tokens_per_user": answers.tokens_per_user if answers else None,
        "ranks_as_sft": sft is not None and sft.metrics == model.metrics,
        "reasoning_ignored_share": answers.reasoning_ignored_share if answers else None,
        "alarms": [alarm.name for alarm in report.alarms if alarm.model == CHALLENGER],
    }


def verdict(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words which variant ranks best, as far as the intervals decide it."""
    if len(rows) < 2:
        return "There is nothing to compare before two variants are finished."
    if len({tuple(row[metric] for metric in METRICS) for row in rows.values()}) == 1:
        return "All variants have the same figures: nothing tells them apart."
    best = max(rows, key=lambda title: rows[title]["ndcg@10"])
    low = rows[best]["ndcg@10_interval"][0]
    close = [title for title, row in rows.items() if title != best and row["ndcg@10_interval"][1] >= low]
    highest = f"'{best}' has the highest NDCG@10, {rows[best]['ndcg@10']:.4f}"
    if close:
        return (
            f"{highest}; its interval overlaps with that of {', '.join(close)}: undecided between them, as "
            "far as intervals tell (they do not compare user by user)."
        )
    return f"{highest}, and its interval lies above all others."


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return the texts of a variant's row under HEADERS."""
    low, high = row["ndcg@10_interval"]
    ignored = row["reasoning_ignored_share"]
    return [
        f"{row['ndcg@10']:.4f}",
        f"{low:.4f}\u00a0to\u00a0{high:.4f}",
        f"{row['recall@10']:.4f}",
        f"{row['ilad']:.3f}",
        f"{row['novelty']:.2f}",
        "" if row["valid_share"] is None else f"{row['valid_share']:.0%}",
        "" if row["tokens_per_user"] is None else f"{row['tokens_per_user']:.0f}",
        "yes" if row["ranks_as_sft"] else "no",
        "" if ignored is None else f"{ignored:.0%}",
        ", ".join(row["alarms"]) or "none",
    ]


def _write_page(
    path: Path,
    name: str,
    question: str,
    variants: Mapping[str, Variant],
    rows: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, str],
) -> None:
    from components.shared.reporting import charts, page

    blocks: list[page.Block] = [page.Note(verdict(rows))]
    for title, cause in missing.items():
        blocks.append(page.Note(f"{title}: {cause}", "warn" if cause == NOT_RUN else "bad"))
    if rows:
        marks: list[charts.Mark] = []
        table: list[list[str | page.Cell]] = []
        for title, row in rows.items():
            low, high = row["ndcg@10_interval"]
            marks.append(charts.Mark(label=title, value=row["ndcg@10"], low=low, high=high, tone="llm"))
            table.append([page.Cell(title, href=variants[title].page), *cells(row)])
        report = next(variant.report for variant in variants.values() if variant.report)
        sample, lineage = report.sample, report.lineage
        blocks += [
            page.Figures({"NDCG@10 of each variant": charts.intervals(marks, from_zero=True)}),
            page.Table(["variant", *HEADERS], table),
            page.Text(GLOSSARY, "faint"),
            page.Text(f"Profile {lineage.get('profile')}, data {lineage.get('data')}."),
            page.Text(
                f"Model: {CHALLENGER}, what training ended with. {sample.users:,} {sample.split} users, the "
                f"same for all variants; {sample.confidence:.0%} bootstrap intervals. Tokens: of an answer. "
                "Ranks as SFT: the figures are the SFT model's, which is the output where no step of GRPO "
                "was better. Reasoning ignored: answers that another user's reasoning leaves unchanged; "
                "blank without a valid answer.",
                "faint",
            ),
        ]
    page.write(path, f"Experiment: {name}", blocks, lead=question)
