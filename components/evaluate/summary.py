"""The short forms of a report: the table for the Kubeflow UI and the figures for its metrics tab."""

from data_contracts.evaluation import Comparator, EvaluationReport

TITLES = {
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "ndcg@5": "NDCG@5",
    "ndcg@10": "NDCG@10",
    "ilad": "ILAD",
    "novelty": "Novelty",
    "coverage": "Coverage",
}


def to_markdown(report: EvaluationReport) -> str:
    """Return one table of all comparators, the sample below it, and the alarms if there are any."""
    sample = report.sample
    header = ["model", *TITLES.values(), "valid", "s/user"]
    lines = [
        "## Evaluation",
        "",
        f"| {' | '.join(header)} |",
        f"|---|{'---:|' * (len(header) - 1)}",
        *(f"| {' | '.join(_row(one))} |" for one in report.comparators),
        "",
        f"{sample.users} of {sample.users_available} {sample.split} users (seed {sample.seed}); "
        f"full-catalogue ranking over {sample.catalogue_items} items; recall ceiling of the "
        f"{sample.candidates:.0f} candidates {sample.recall_ceiling:.4f}.",
        "",
    ]
    for alarm in report.alarms:
        figures = f"{alarm.value:.3g}, bound {alarm.bound:.3g}"
        lines.append(f"- **{alarm.name}** ({alarm.model}): {figures}; {alarm.remedy}.")
    return "\n".join(lines).rstrip() + "\n"


def headline_metrics(report: EvaluationReport) -> dict[str, float]:
    """Return the figures shown as KFP metrics; names without "@", which MLflow would refuse."""
    figures = {"users": float(report.sample.users), "recall_ceiling": report.sample.recall_ceiling}
    for one in report.comparators:
        for metric in ("recall@10", "ndcg@10"):
            figures[f"{one.name}_{metric.replace('@', '_at_')}"] = one.metrics[metric]
        if one.answers:
            figures[f"{one.name}_valid_share"] = one.answers.valid_share
    return figures


def _row(one: Comparator) -> list[str]:
    interval = one.ndcg_at_10_interval
    cells = [one.name.replace("|", "\\|")]
    for metric in TITLES:
        cell = f"{one.metrics[metric]:.2f}" if metric == "novelty" else f"{one.metrics[metric]:.4f}"
        if metric == "ndcg@10":
            cell += f" [{interval.low:.4f}, {interval.high:.4f}]"
        cells.append(cell)
    if one.answers is None:
        return [*cells, "", ""]
    return [*cells, f"{one.answers.valid_share:.1%}", f"{one.answers.seconds_per_user:.2f}"]
