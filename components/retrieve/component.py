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
    """Train the recommenders and list candidates; `config` is JSON, `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.retrieve.config import RetrieveConfig
    from components.retrieve.job import run
    from components.shared.artifacts.outputs import log_metrics
    from components.shared.config import parse

    written = run(
        parse(RetrieveConfig, config, "retrieve"),
        sequences=Path(sequences.path),
        catalogue=Path(catalogue.path),
        users=Path(users.path),
        exposures=Path(exposures.path),
        candidates=Path(candidates.path),
        rankings=Path(rankings.path),
        report_html=Path(report.path),
        checkpoints=checkpoints,
    )
    log_metrics(metrics, written.metrics())
