"""Figures of the comparators: tables, charts, differences, answers, parts of the users."""

from dataclasses import asdict

from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Cell, Table, Text, Tone
from data_contracts.evaluation import (
    BASE_MODEL,
    CANDIDATE_ORDER,
    CHAMPION,
    SCORED_MODEL,
    TRAINED_MODEL,
    UNFUSED_MODEL,
    Difference,
    EvaluationReport,
)
from data_contracts.metrics import FURTHER_METRICS, HEADLINE_METRICS, TITLES, format_metric, glossary

_KINDS = {
    "conventional": "Conventional",
    "online": "Shown online",
    "champion": "Champion in production",
    "llm": "Language models",
}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "undecided": "faint"}


def ranking_quality(report: EvaluationReport) -> list[Block]:
    """Return table and charts of all comparators."""
    names = {kind: ", ".join(f.name for f in report.comparators if f.kind == kind) for kind in _KINDS}
    return [
        Text("; ".join(f"{_KINDS[kind]}: {found}" for kind, found in names.items() if found) + "."),
        comparators(report),
        Text(f"{glossary(HEADLINE_METRICS)} A bold figure is the highest of its column.", "faint"),
        _further(report),
        _charts(report),
    ]


def comparators(report: EvaluationReport) -> Table:
    """Return the table of all comparators, the highest figure of each metric in bold."""
    highest = {
        TITLES[metric]: format_metric(metric, max(found.metrics[metric] for found in report.comparators))
        for metric in HEADLINE_METRICS
    }
    rows: list[list[str | Cell]] = []
    for found in report.comparators:
        figures = found.figures().items()
        cells = [Cell(text, "best" if highest.get(title) == text else "") for title, text in figures]
        rows.append([found.name, *cells])
    return Table(["model", *report.comparators[0].figures()], rows)


def _charts(report: EvaluationReport) -> Block:
    marks = [
        charts.Mark(
            label=found.name,
            value=found.metrics["ndcg@10"],
            tone=found.kind,
            **asdict(found.ndcg_at_10_interval),
        )
        for found in report.comparators
    ]
    dots = [
        charts.Dot(label=f.name, x=f.metrics["ilad"], y=f.metrics["ndcg@10"], tone=f.kind)
        for f in report.comparators
    ]
    rivals = [report.comparator(CANDIDATE_ORDER), report.best_conventional("ndcg@10")]
    shown = {
        found.name: (found, "order" if found.name == CANDIDATE_ORDER else found.kind)
        for found in (*rivals, report.comparator(CHAMPION), report.comparator(TRAINED_MODEL))
        if found
    }
    recall = {name: (found.recall_by_k, tone) for name, (found, tone) in shown.items()}
    ndcg = {name: (found.ndcg_by_k, tone) for name, (found, tone) in shown.items()}
    return page.Figures(
        {
            f"NDCG@10 with {report.sample.confidence:.0%} intervals": charts.intervals(marks, from_zero=True),
            "Accuracy against diversity": charts.dots(dots, "ILAD (diversity)", "NDCG@10"),
            "Recall@K": charts.lines(recall, "K"),
            "NDCG@K": charts.lines(ndcg, "K"),
        }
    )


def _further(report: EvaluationReport) -> Block:
    rows = [
        [found.name, *(format_metric(metric, found.metrics[metric]) for metric in FURTHER_METRICS)]
        for found in report.comparators
    ]
    header = ["model", *(TITLES[metric] for metric in FURTHER_METRICS)]
    return page.Details("More metrics", [Table(header, rows), Text(glossary(FURTHER_METRICS), "faint")])


def differences(report: EvaluationReport) -> list[Block]:
    """Return chart and table of the trained models' differences in NDCG@10."""
    marks: list[charts.Mark] = []
    rows: list[list[str | Cell]] = []
    baselines = (
        CANDIDATE_ORDER,
        report.best_conventional("ndcg@10").name,
        CHAMPION,
        BASE_MODEL,
        "sft",
        SCORED_MODEL,
        UNFUSED_MODEL,
    )
    for d in reversed(report.differences):  # the newest model first; the JSON report holds all of them
        if d.metric != "ndcg@10" or d.model == CHAMPION or d.baseline not in baselines:
            continue
        outcome = outcome_of(d, report.sample.confidence)
        label = f"{d.model} - {d.baseline}"
        marks.append(charts.Mark(label=label, value=d.mean, low=d.low, high=d.high, tone=outcome))
        interval = f"{d.low:+.4f} to {d.high:+.4f}"
        rows.append([label, f"{d.mean:+.4f}", interval, f"{d.p_holm:.2g}", Cell(outcome, TONES[outcome])])
    explained = (
        "NDCG@10 of the first minus the second, on the same users; paired bootstrap, "
        f"{report.sample.confidence:.0%} intervals. p: of no difference, corrected (Holm) for all "
        "comparisons of the model. An interval that holds zero, or a p above "
        f"{1 - report.sample.confidence:.2g}, decides nothing."
    )
    return [
        Text(explained),
        page.Figures({"Differences in NDCG@10": charts.intervals(marks)}),
        Table(["comparison", "difference", "interval", "p", ""], rows),
    ]


def outcome_of(difference: Difference, confidence: float) -> str:
    """Return "better", "worse" or "undecided", by the interval and the corrected p."""
    if difference.p_holm > 1 - confidence or difference.low <= 0 <= difference.high:
        return "undecided"
    return "better" if difference.low > 0 else "worse"


def answers(report: EvaluationReport) -> list[Block]:
    """Return the table of how the language models answered, and at what cost."""
    header = ["model", "valid", "corrected", "with repeats", "cut off", "most frequent answer"]
    header += ["copies the list", "same after other reasoning", "tokens per user", "s per user"]
    rows = []
    for found in report.comparators:
        if answers := found.answers:
            shares = (
                answers.valid_share,
                answers.corrected_share,
                answers.duplicate_share,
                answers.truncated_share,
                answers.constant_share,
                answers.copied_share,
            )
            ignored = answers.reasoning_ignored_share
            probed = "" if ignored is None else f"{ignored:.0%} of {answers.reasoning_probes}"
            costs = (f"{answers.tokens_per_user:.0f}", f"{answers.seconds_per_user:.2f}")
            percent = [f"{share:.1%}" for share in shares]
            rows.append([found.name, *percent, probed, *costs])
    note = (
        "The candidates that an answer names come first, the others keep their order; so a model without a "
        "usable answer scores like the candidates. Valid: keeps the format by itself. Corrected: constrained "
        "decoding held it to the format."
    )
    return [Table(header, rows), Text(note, "faint")]


def slices(report: EvaluationReport) -> list[Block]:
    """Return NDCG@10 on the parts of the users, and the trained model's gain there."""
    best = report.best_conventional("ndcg@10").name
    named = dict.fromkeys((CANDIDATE_ORDER, best, CHAMPION, "sft", TRAINED_MODEL))
    shown = [name for name in named if report.comparator(name)]
    rows: list[list[str | Cell]] = []
    marks: list[charts.Mark] = []
    for part in report.slices:
        row: list[str | Cell] = [part.name, f"{part.users:,}"]
        row += [format_metric("ndcg@10", part.ndcg_at_10[name]) for name in shown]
        for d in part.differences:
            if (d.model, d.baseline) == (TRAINED_MODEL, best):
                outcome = outcome_of(d, report.sample.confidence)
                marks.append(charts.Mark(label=part.name, value=d.mean, low=d.low, high=d.high, tone=outcome))
                row.append(Cell(str(d), TONES[outcome]))
        rows.append(row)
    title = f"{TRAINED_MODEL} - {best}"
    text = "NDCG@10 on parts of the users, and the trained model against the best conventional one there. "
    text += " ".join(f"{part.name.capitalize()}: {part.rule}." for part in report.slices if part.rule)
    return [
        Text(text),
        page.Figures({f"{title} on each part": charts.intervals(marks)}),
        Table(["part", "users", *shown, title], rows),
    ]
