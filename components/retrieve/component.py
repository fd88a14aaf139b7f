"""KFP wrapper of the step `retrieve`."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.step import step


@step()
def retrieve(
    config: str,
    fingerprint: str,
    checkpoints: str,
    sequences: Input[Dataset],
    catalogue: Input[Dataset],
    users: Input[Dataset],
    exposures: Input[Dataset],
    candidates: Output[Dataset],
    rankings: Output[Dataset],
    report: Output[HTML],
    metrics: Output[Metrics],
):
    """Train the recommenders, list candidates; `config` is JSON, `fingerprint` keys cache and checkpoints."""
    from components.retrieve.config import RetrieveConfig
    from components.retrieve.job import run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.config import parse

    written = run(
        parse(RetrieveConfig, config, "retrieve"),
        **paths(sequences=sequences, catalogue=catalogue, users=users, exposures=exposures),
        **paths(candidates=candidates, rankings=rankings, report_html=report),
        checkpoints=checkpoints,
        fingerprint=fingerprint,
    )
    log_metrics(metrics, written.metrics())
