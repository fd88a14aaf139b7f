"""KFP wrappers of evaluate and of the gate."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from components.step import step


@step()
def evaluate(
    config: str,
    fingerprint: str,
    lineage: str,
    prompts: Input[Dataset],
    catalogue: Input[Dataset],
    rankings: Input[Dataset],
    base_model: Input[Model],
    sft_model: Input[Model],
    grpo_model: Input[Model],
    champion: Input[Model],
    grpo_alarms: Input[Artifact],
    report: Output[Artifact],
    html: Output[HTML],
    metrics: Output[Metrics],
):
    """Compare all models on the test users; `config`, `lineage` are JSON, `fingerprint` a cache key."""
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.job import headline_metrics, run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.config import parse
    from data_contracts.evaluation import parse_lineage

    written = run(
        parse(EvaluateConfig, config, "evaluate"),
        **paths(prompts=prompts, catalogue=catalogue, rankings=rankings, training_alarms=grpo_alarms),
        **paths(report_json=report, html=html),
        models=paths(champion=champion, base=base_model, sft=sft_model, grpo=grpo_model),
        lineage=parse_lineage(lineage),
    )
    log_metrics(metrics, headline_metrics(written))


@step()
def gate(config: str, fingerprint: str, report: Input[Artifact], decision: Output[Markdown]) -> bool:
    """Return whether the report passes the rules; `config` is JSON, `fingerprint` keys the cache."""
    from pathlib import Path

    from components.evaluate.config import GateConfig
    from components.evaluate.gate import run
    from components.shared.config import parse

    return run(parse(GateConfig, config, "gate"), Path(report.path), Path(decision.path)).passed
