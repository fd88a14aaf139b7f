"""KFP wrapper of the step `retrieve`."""

from kfp.dsl import HTML, Dataset, Output, OutputPath

from components.step import step


@step()
def retrieve(
    config: dict,
    fingerprint: str,
    checkpoints: str,
    labels: dict,
    tables: dict,
    lists: Output[Dataset],
    page: Output[HTML],
    tables_so_far: OutputPath(dict),  # type: ignore[valid-type]
):
    """Train the recommenders, list candidates; `fingerprint` keys the cache and the checkpoints."""
    from pathlib import Path

    from components.retrieve.config import RetrieveConfig
    from components.retrieve.job import run
    from components.retrieve.passes import ExecutorTables
    from components.shared.artifacts.outputs import write_json
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse
    from components.shared.labels import LabelSettings

    read, written = ("sequences", "catalogue", "users", "exposures"), ("candidates", "rankings", "served")
    settings, remote = parse(RetrieveConfig, config, "retrieve"), None
    if settings.spark and not settings.spark.is_local:
        remote = ExecutorTables(tables["sequences"], tables["users"], f"{lists.uri}-staging")
    run(
        settings,
        **{name: local_copy(tables[name]) for name in read},
        **{name: Path(lists.path, name) for name in written},
        report_html=Path(page.path),
        checkpoints=checkpoints,
        fingerprint=fingerprint,
        labels=parse(LabelSettings, labels, "labels"),
        remote=remote,
    )
    write_json(Path(tables_so_far), {**tables, **{name: f"{lists.uri}/{name}" for name in written}})
