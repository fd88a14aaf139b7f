"""An experiment's report: all variants side by side, as a page and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.artifacts.outputs import write_json
from data_contracts.evaluation import CANDIDATE_ORDER, TRAINED_MODEL, EvaluationReport
from data_contracts.metrics import TITLES, format_metric, glossary
from pipelines.experiments import seeds

METRICS = ("ndcg@10", "recall@10", "ilad", "novelty")
NOT_RUN, FIRST = "not run yet", "over the first variant"
Row = Mapping[str, Any]
"""The figures of a variant's trained model, as `row_of` returns them."""


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `document` into `folder` as `report.json` and as a page, `report.html`.

    Its keys: experiment, question, model; variants (row_of by title), made_from (changes, page, sample and
    lineage by title), missing, the cause for each variant that has no row, and `seeds_of` several seeds.
    """
    document = {**document, "verdict": _verdict(document)}
    write_json(folder / "report.json", document)
    _write_page(folder / "report.html", document)


def row_of(report: EvaluationReport) -> dict[str, Any]:
    """Return the figures of the trained model."""
    model, sft = report.comparator(TRAINED_MODEL), report.comparator("sft")
    if model is None or model.answers is None:
        raise ValueError(f"the report has no answers of '{TRAINED_MODEL}'")
    interval = model.ndcg_at_10_interval
    gain = report.difference(TRAINED_MODEL, CANDIDATE_ORDER, "ndcg@10")
    return {
        **{metric: model.metrics[metric] for metric in METRICS},
        "ndcg@10_interval": [interval.low, interval.high],
        "gain": str(gain) if gain else "",
        "valid_share": model.answers.valid_share,
        "tokens_per_user": model.answers.tokens_per_user,
        "ranks_as_sft": sft is not None and sft.metrics == model.metrics,
        "reasoning_ignored_share": model.answers.reasoning_ignored_share,
        "alarms": [alarm.name for alarm in report.alarms if alarm.model == TRAINED_MODEL],
    }


def seeds_of(report: EvaluationReport, evaluations: Sequence[Path]) -> dict[str, Any]:
    """Return what the `evaluations` of several seeds say together, and its baseline."""
    best = report.best_conventional("ndcg@10").name
    pairs = [(TRAINED_MODEL, baseline) for baseline in dict.fromkeys((best, "sft"))]
    return {"baseline": best, "rows": seeds.over_seeds(evaluations, pairs)}


def control_of(evaluations: Sequence[Path], controls: Sequence[Path]) -> dict[str, Any]:
    """Return what GRPO's trainings say beside SFT continued, seed by seed."""
    pairs = [(TRAINED_MODEL, seeds.CONTROL), (TRAINED_MODEL, "sft"), ("sft", CANDIDATE_ORDER)]
    return {"baseline": seeds.CONTROL, "rows": seeds.over_seeds(evaluations, pairs, controls)}


def over_first(evaluations: Sequence[Path]) -> str:
    """Return the last variant's gain over the first in NDCG@10, user by user.

    `evaluations` are the variants' folders; "" for the first itself, and where the two asked different users.
    """
    first, last = evaluations[0], evaluations[-1]
    if last == first:
        return ""
    asked = [set(seeds.users_of(folder).index.droplevel("model")) for folder in (first, last)]
    if asked[0] != asked[1]:
        return ""
    row = seeds.over_seeds([last], [(TRAINED_MODEL, seeds.CONTROL)], [first])[1]
    return f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def _verdict(document: Mapping[str, Any]) -> str:
    if together := document.get("seeds"):
        return seeds.verdict(together["rows"], together["baseline"])
    return verdict(document["variants"])


def verdict(rows: Mapping[str, Row]) -> str:
    """Return in words which variant ranks best, as far as the intervals decide it."""
    if len(rows) < 2:
        return "There is nothing to compare before two variants are finished."
    if len({tuple(row[metric] for metric in METRICS) for row in rows.values()}) == 1:
        return "All variants have the same figures: there is no difference."
    best = max(rows, key=lambda title: rows[title]["ndcg@10"])
    low = rows[best]["ndcg@10_interval"][0]
    close = [title for title, row in rows.items() if title != best and row["ndcg@10_interval"][1] >= low]
    highest = f"'{best}' has the highest NDCG@10, {rows[best]['ndcg@10']:.4f}"
    if close:
        return (
            f"{highest}; its interval overlaps with that of {', '.join(close)}: undecided between them "
            "by their intervals (the table compares each with the first user by user)."
        )
    return f"{highest}, and its interval lies above all others."


def table_of(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what tables show of each variant, by the columns' headers; no column is empty.

    Seeds are compared together, so none of them with the first.
    """
    rows = {title: _figures(row) for title, row in document["variants"].items()}
    shown = {header for row in rows.values() for header, text in row.items() if text}
    shown -= {FIRST} if document.get("seeds") else set()
    return {title: {header: row[header] for header in row if header in shown} for title, row in rows.items()}


def _figures(row: Row) -> dict[str, str]:
    low, high = row["ndcg@10_interval"]
    ignored = row["reasoning_ignored_share"]
    return {TITLES[metric]: format_metric(metric, row[metric]) for metric in METRICS} | {
        "NDCG@10 interval": f"{low:.4f} to {high:.4f}",
        "over the candidates' order": row["gain"],
        FIRST: row["over_first"],
        "valid": f"{row['valid_share']:.1%}",
        "tokens": f"{row['tokens_per_user']:.0f}",
        "ranks as SFT": "yes" if row["ranks_as_sft"] else "no",
        "reasoning ignored": "" if ignored is None else f"{ignored:.0%}",
        "alarms": ", ".join(row["alarms"]) or "none",
    }


def _write_page(path: Path, document: Mapping[str, Any]) -> None:
    from components.shared.reporting import charts, page

    rows, made_from, shown = document["variants"], document["made_from"], table_of(document)
    blocks: list[page.Block] = [page.Note(document["verdict"])]
    for title, cause in document["missing"].items():
        blocks.append(page.Note(f"{title}: {cause}", "warn" if cause == NOT_RUN else "bad"))
    if together := document.get("seeds"):
        blocks += _seeds(together["rows"])
    if rows:
        marks: list[charts.Mark] = []
        table: list[list[str | page.Cell]] = []
        for title, row in rows.items():
            low, high = row["ndcg@10_interval"]
            marks.append(charts.Mark(label=title, value=row["ndcg@10"], low=low, high=high, tone="llm"))
            table.append([page.Cell(title, href=made_from[title]["page"]), *shown[title].values()])
        sample, lineage = (next(iter(made_from.values()))[key] for key in ("sample", "lineage"))
        blocks += [
            page.Figures(
                {} if together else {"NDCG@10 of each variant": charts.intervals(marks, from_zero=True)}
            ),
            page.Table(["variant", *shown[title]], table),
            page.Text(glossary(METRICS), "faint"),
            page.Text(f"Profile {lineage.get('profile')}, data {lineage.get('data')}."),
            page.Text(
                f"Model: {TRAINED_MODEL}, what training ended with. {sample}; bootstrap intervals, gains "
                "over others (blank where users differ) paired. Tokens: of an answer. Ranks as SFT: the "
                "figures are the SFT model's, which is the output where no step of GRPO was better. "
                "Reasoning ignored: answers that another user's reasoning leaves unchanged; blank without a "
                "valid answer.",
                "faint",
            ),
        ]
    page.write(path, f"Experiment: {document['experiment']}", blocks, lead=document["question"])


def _seeds(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    from components.shared.reporting import charts, page

    marks = [
        charts.Mark(label=f"seed {seed}", value=value, low=value, high=value, tone="llm")
        for seed, value in enumerate(rows[0]["by_seed"])
    ]
    together = {name: rows[0][name] for name in ("low", "high")}
    marks.append(charts.Mark(label="all seeds", value=rows[0]["mean"], tone="champion", **together))
    return [
        page.Heading("All seeds together"),
        page.Figures({f"{rows[0]['quantity']} by training seed": charts.intervals(marks, from_zero=True)}),
        page.Table(
            ["", *seeds.figures(rows[0])], [[row["quantity"], *seeds.figures(row).values()] for row in rows]
        ),
        page.Text(
            "Each seed trains SFT and GRPO anew on the same data; the same users are asked. Intervals draw "
            "seeds and users with replacement (two-way bootstrap); with few seeds they are too narrow.",
            "faint",
        ),
    ]
