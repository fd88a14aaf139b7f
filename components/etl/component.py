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
    """Clean, order and split the raw tables at `data`; `config` is JSON of SequencesConfig.

    `fingerprint` names the data's contents and the code; it only keys the cache.
    """
    from pathlib import Path

    from components.etl.config import SequencesConfig
    from components.etl.outputs import log_report, table_of
    from components.etl.sequences.job import run_sequences
    from components.shared.config import parse

    settings = parse(SequencesConfig, config, "sequences")
    report = run_sequences(
        settings,
        data,
        sequences=table_of(sequences, settings.spark),
        catalogue=table_of(catalogue, settings.spark),
        users=table_of(users, settings.spark),
        exposures=table_of(exposures, settings.spark),
        quarantine=table_of(quarantine, settings.spark),
        page=Path(data_docs.path),
    )
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
    """Render chat prompts with their answer keys; `config` is JSON of PromptsConfig.

    `fingerprint` names the code; it only keys the cache.
    """
    from pathlib import Path

    from components.etl.config import PromptsConfig
    from components.etl.outputs import log_report, table_of
    from components.etl.prompts.job import run_prompts
    from components.shared.config import parse

    settings = parse(PromptsConfig, config, "prompts")
    tables = {"sequences": sequences, "catalogue": catalogue, "users": users, "candidates": candidates}
    folders = {name: table_of(artifact, settings.spark) for name, artifact in tables.items()}
    report = run_prompts(
        settings,
        **folders,
        base_model=Path(base_model.path),
        prompts=Path(prompts.path),
        page=Path(data_docs.path),
        staging=None if settings.spark.is_local else f"{table_of(prompts, settings.spark)}-staging",
    )
    log_report(report, metrics)
