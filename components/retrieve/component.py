"""KFP wrapper of the step `retrieve`."""

from kfp.dsl import HTML, Dataset, Metrics, Output, OutputPath

from components.step import step


@step()
def retrieve(
    config: dict,
    fingerprint: str,
    checkpoints: str,
    sequences: str,
    lists: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
    uri: OutputPath(str),  # type: ignore[valid-type]
):
    """Train the recommenders, list candidates; `fingerprint` keys the cache and the checkpoints."""
    from pathlib import Path

    from components.retrieve.config import RetrieveConfig
    from components.retrieve.job import run
    from components.shared.artifacts.outputs import log_metrics
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse

    tables = ("sequences", "catalogue", "users", "exposures")
    tables = ("sequences", "catalogue", "users", "exposures")
    report = run(
        parse(RetrieveConfig, config, "retrieve"),
        **{name: local_copy(f"{sequences}/{name}") for name in tables},
        **{name: Path(lists.path, name) for name in ("candidates", "rankings")},
        report_html=Path(page.path),
        checkpoints=checkpoints,
        fingerprint=fingerprint,
    )
    log_metrics(metrics, report.metrics())
    Path(uri).write_text(lists.uri)
