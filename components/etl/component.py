"""KFP wrappers of the data steps."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output, OutputPath

from components.step import step


@step()
def sequences(
    config: dict,
    data: str,
    as_of: str,
    fingerprint: str,
    tables: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
    uri: OutputPath(str),  # type: ignore[valid-type]
):
    """Clean, order and split the raw tables before `as_of`; `fingerprint` keys the cache."""
    from dataclasses import replace
    from pathlib import Path

    from components.etl.config import SequencesConfig
    from components.etl.outputs import log_report, outputs
    from components.etl.sequences.job import run_sequences
    from components.shared.config import parse

    settings = replace(parse(SequencesConfig, config, "sequences"), as_of=as_of)
    report = run_sequences(settings, data, **outputs(settings.spark, tables), page=Path(page.path))
    log_report(report, metrics)
    Path(uri).write_text(tables.uri)


@step()
def prompts(
    config: dict,
    fingerprint: str,
    sequences: str,
    retrieved: str,
    base_model: Input[Model],
    prompts: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
    uri: OutputPath(str),  # type: ignore[valid-type]
):
    """Render chat prompts with their answer keys; `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.etl.config import PromptsConfig
    from components.etl.outputs import inputs, log_report
    from components.etl.prompts.job import run_prompts
    from components.shared.artifacts.outputs import paths
    from components.shared.config import parse

    settings = parse(PromptsConfig, config, "prompts")
    report = run_prompts(
        settings,
        **inputs(settings.spark, sequences, "sequences", "catalogue", "users"),
        **inputs(settings.spark, retrieved, "candidates"),
        **paths(base_model=base_model, prompts=prompts, page=page),
        staging=None if settings.spark.is_local else f"{prompts.uri}-staging",
    )
    log_report(report, metrics)
    Path(uri).write_text(prompts.uri)
