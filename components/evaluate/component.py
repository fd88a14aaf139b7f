"""KFP wrappers of evaluate and of the gate."""

from kfp.dsl import HTML, Artifact, Input, Markdown, Metrics, Model, Output

from components.step import step


@step()
def evaluate(
    config: dict,
    fingerprint: str,
    lineage: dict,
    tables: dict,
    base_model: Input[Model],
    sft_model: Input[Model],
    grpo_model: Input[Model],
    champion: Input[Model],
    grpo_alarms: dict,
    report: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Compare all models on the test users; `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.evaluate.config import EvaluateConfig
    from components.evaluate.job import headline_metrics, run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse
    from data_contracts.evaluation import REPORT, USERS

    written = run(
        parse(EvaluateConfig, config, "evaluate"),
        **{name: local_copy(tables[name]) for name in ("prompts", "catalogue", "rankings")},
        **paths(html=page),
        logged=tables,
        report_json=Path(report.path) / REPORT,
        users=Path(report.path) / USERS,
        models=paths(champion=champion, base=base_model, sft=sft_model, grpo=grpo_model),
        lineage=lineage,
        training_alarms=grpo_alarms,
    )
    log_metrics(metrics, headline_metrics(written))


@step()
def gate(
    config: dict,
    fingerprint: str,
    report: Input[Artifact],
    page: Output[HTML],
    summary: Output[Markdown],
) -> bool:
    """Return whether the report passes the rules; `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.evaluate.config import GateConfig
    from components.evaluate.gate import run
    from components.shared.artifacts.outputs import paths
    from components.shared.config import parse
    from data_contracts.evaluation import REPORT

    report_json = Path(report.path) / REPORT
    decided = run(parse(GateConfig, config, "gate"), report=report_json, **paths(html=page, summary=summary))
    return decided.passed
