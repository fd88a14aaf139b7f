"""KFP wrappers of the data steps."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.step import step


@step()
def sequences(
    config: str,
    data: str,
    fingerprint: str,
    sequences: Output[Dataset],
    catalogue: Output[Dataset],
    users: Output[Dataset],
    exposures: Output[Dataset],
    quarantine: Output[Dataset],
    data_docs: Output[HTML],
    metrics: Output[Metrics],
):
    """Clean, order and split the raw tables; `config` is JSON, `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.etl.config import SequencesConfig
    from components.etl.outputs import log_report, tables
    from components.etl.sequences.job import run_sequences
    from components.shared.config import parse

    settings = parse(SequencesConfig, config, "sequences")
    out = tables(settings.spark, sequences=sequences, catalogue=catalogue, users=users, exposures=exposures)
    out |= tables(settings.spark, quarantine=quarantine)
    report = run_sequences(settings, data, **out, page=Path(data_docs.path))
    log_report(report, metrics)


@step()
def prompts(
    config: str,
    fingerprint: str,
    sequences: Input[Dataset],
    catalogue: Input[Dataset],
    users: Input[Dataset],
    candidates: Input[Dataset],
    base_model: Input[Model],
    prompts: Output[Dataset],
    data_docs: Output[HTML],
    metrics: Output[Metrics],
):
    """Render chat prompts with their answer keys; `config` is JSON, `fingerprint` only keys the cache."""
    from components.etl.config import PromptsConfig
    from components.etl.outputs import log_report, tables
    from components.etl.prompts.job import run_prompts
    from components.shared.artifacts.outputs import paths
    from components.shared.config import parse

    settings = parse(PromptsConfig, config, "prompts")
    read = tables(
        settings.spark, sequences=sequences, catalogue=catalogue, users=users, candidates=candidates
    )
    written = tables(settings.spark, prompts=prompts)["prompts"]
    report = run_prompts(
        settings,
        **read,
        **paths(base_model=base_model, prompts=prompts, page=data_docs),
        staging=None if settings.spark.is_local else f"{written}-staging",
    )
    log_report(report, metrics)
