"""An experiment's report: every variant's figures side by side, as a page and as a table of JSON."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluate.config import CHALLENGER
from components.shared.artifacts.outputs import write_json, write_text
from data_contracts.evaluation import Comparator, EvaluationReport

METRICS = ("ndcg@10", "recall@10", "ilad", "novelty")
_RANKING, _ANSWERS = ("NDCG@10", "interval", "Recall@10", "ILAD", "Novelty"), ("valid", "tokens")
HEADERS = (*_RANKING, *_ANSWERS, "ranks as SFT", "reasoning ignored", "alarms")


def write(
    folder: Path,
    name: str,
    question: str,
    reports: Mapping[str, EvaluationReport],
    pages: Mapping[str, str],
    changes: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write `report.html` and `report.json` into `folder`.

    `pages` are the variants' evaluation pages, relative to `folder`; `changes` is what each variant changes
    in the profile.
    """
    rows = {variant: row_of(report) for variant, report in reports.items()}
    made = {
        variant: {"changes": changes[variant], "page": pages[variant], "lineage": report.lineage}
        for variant, report in reports.items()
    }
    write_json(
        folder / "report.json",
        {"experiment": name, "question": question, "model": CHALLENGER, "variants": rows, "made_from": made},
    )
    write_text(folder / "report.html", _page(name, question, rows, reports, pages))


def row_of(report: EvaluationReport) -> dict[str, Any]:
    """Return the figures of the model that training ended with."""
    model, sft = _judged(report), report.comparator("sft")
    interval, answers = model.ndcg_at_10_interval, model.answers
    return {
        **{metric: model.metrics[metric] for metric in METRICS},
        "ndcg@10_interval": [interval.low, interval.high],
        "valid_share": answers.valid_share if answers else None,
        "tokens_per_user": answers.tokens_per_user if answers else None,
        "ranks_as_sft": sft is not None and sft.metrics == model.metrics,
        "reasoning_ignored_share": answers.reasoning_ignored_share if answers else None,
        "alarms": [alarm.name for alarm in report.alarms if alarm.model == CHALLENGER],
        "users": report.sample.users,
    }


def verdict(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in words which variant ranks best, as far as the intervals tell."""
    if len({tuple(row[metric] for metric in METRICS) for row in rows.values()}) == 1:
        return "All variants have the same figures: nothing tells them apart."
    best = max(rows, key=lambda variant: rows[variant]["ndcg@10"])
    low = rows[best]["ndcg@10_interval"][0]
    close = [name for name, row in rows.items() if name != best and row["ndcg@10_interval"][1] >= low]
    said = f"'{best}' has the highest NDCG@10, {rows[best]['ndcg@10']:.4f}"
    if close:
        return (
            f"{said}; its interval overlaps with that of {', '.join(close)}: undecided between them, as far "
            "as intervals tell (they do not compare user by user)."
        )
    return f"{said}, and its interval lies above all others."


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return the texts of a variant's row under HEADERS."""
    low, high = row["ndcg@10_interval"]
    ignored = row["reasoning_ignored_share"]
    return [
        f"{row['ndcg@10']:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"{row['recall@10']:.4f}",
        f"{row['ilad']:.3f}",
        f"{row['novelty']:.2f}",
        "" if row["valid_share"] is None else f"{row['valid_share']:.0%}",
        "" if row["tokens_per_user"] is None else f"{row['tokens_per_user']:.0f}",
        "yes" if row["ranks_as_sft"] else "no",
        "" if ignored is None else f"{ignored:.0%}",
        ", ".join(row["alarms"]) or "none",
    ]


def _page(
    name: str,
    question: str,
    rows: Mapping[str, Mapping[str, Any]],
    reports: Mapping[str, EvaluationReport],
    pages: Mapping[str, str],
) -> str:
    from components.evaluate.charts import Mark, bars
    from components.evaluate.page_style import GLOSSARY, document

    first = next(iter(reports.values()))
    sample, profile, data = first.sample, first.lineage.get("profile"), first.lineage.get("data")
    marks = [
        Mark(label=variant, value=one.metrics["ndcg@10"], interval=one.ndcg_at_10_interval, tone="llm")
        for variant, one in ((variant, _judged(report)) for variant, report in reports.items())
    ]
    head = "".join(f"<th>{header}</th>" for header in ("variant", *HEADERS))
    body = "".join(
        f'<tr><td><a href="{html.escape(pages[variant])}">{html.escape(variant)}</a></td>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row))
        + "</tr>"
        for variant, row in rows.items()
    )
    return document(
        f"Experiment {name}",
        f"<h1>Experiment: {html.escape(name)}</h1><p class=lead>{html.escape(question)}</p>"
        f"<p>{html.escape(verdict(rows))}</p>"
        f"{bars('NDCG@10 of each variant', marks)}"
        f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>{GLOSSARY}'
        f"<p>Profile {html.escape(str(profile))}, data {html.escape(str(data))}.</p>"
        f"<p><small>Model: {CHALLENGER}, what training ended with. {sample.users:,} {sample.split} users, "
        f"the same for all variants; {sample.confidence:.0%} bootstrap intervals. Tokens: of an answer. "
        "Ranks as SFT: the figures are the SFT model's, which goes on where no step of GRPO was better. "
        "Reasoning ignored: answers that another user's reasoning leaves as they are; blank without a valid "
        "answer.</small></p>",
    )


def _judged(report: EvaluationReport) -> Comparator:
    model = report.comparator(CHALLENGER)
    if model is None:
        raise ValueError(f"the report has no '{CHALLENGER}'")
    return model
