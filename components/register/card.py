"""The model card of a version: what it was trained on, how good it is, where it is weak."""

from components.shared.reporting import markdown
from components.shared.tracking.registry import RUN_KEY
from data_contracts.evaluation import CHAMPION, TRAINED_MODEL, Comparator, EvaluationReport

LONGEST = 5000
"""Characters that MLflow keeps of a version's description."""


def model_card(report: EvaluationReport) -> str:
    """Return the card in Markdown: MLflow shows it as the version's description."""
    lineage, sample = report.lineage, report.sample
    model, best = report.comparator(TRAINED_MODEL), report.best_conventional("ndcg@10")
    shown = [found for found in (model, report.comparator("sft"), best, report.comparator(CHAMPION)) if found]
    answers = model.answers if model else None
    reasons = ", with reasons" if answers and answers.tokens_per_user else ""
    parts = [
        f"Ranks candidates for a user{reasons}. Run `{lineage.get(RUN_KEY)}`; the gate passed.",
        "### Evaluation",
        f"{sample}; no sampled negatives; {sample.confidence:.0%} intervals over users.",
        markdown.table(["model", "NDCG@10", "Recall@10", "ILAD", "Novelty"], [*map(_row, shown)]),
        *_differences(report, best),
        "### Trained on",
        "\n".join(
            f"- {name}: `{lineage[name]}`" for name in ("base_model", "data", "as_of") if lineage.get(name)
        ),
        "### Limits",
        "\n".join(_limits(report)),
    ]
    return "\n\n".join(parts)[:LONGEST]


def _row(found: Comparator) -> list[str]:
    figures, interval = found.figures(), found.ndcg_at_10_interval
    ndcg = f"{figures['NDCG@10']} [{interval.low:.4f}, {interval.high:.4f}]"
    return [found.name, ndcg, figures["Recall@10"], figures["ILAD"], figures["Novelty"]]


def _differences(report: EvaluationReport, best: Comparator) -> list[str]:
    found = [report.difference(TRAINED_MODEL, name, "ndcg@10") for name in (best.name, CHAMPION)]
    return ["\n".join(f"- NDCG@10 against {d.baseline}: {d}" for d in found if d)]


def _limits(report: EvaluationReport) -> list[str]:
    lost = [
        f"- {part.name} ({part.users} users{part.rule and f', {part.rule}'}): {d} against {d.baseline}"
        for part in report.slices
        for d in part.differences
        if d.model == TRAINED_MODEL and d.high < 0
    ]
    return [
        f"- It orders candidates of a retriever: no order of them has a Recall above "
        f"{report.sample.recall_ceiling:.4f}.",
        *(f"- {alarm}" for alarm in report.alarms),
        *(lost or ["- On no part of the users that was looked at is it clearly worse than another model."]),
    ]
