"""KFP wrappers of the data steps."""

from kfp.dsl import HTML, Dataset, Input, Model, Output, OutputPath

from components.step import step


@step()
def sequences(
    config: dict,
    data: str,
    as_of: str,
    fingerprint: str,
    sequences: Output[Dataset],
    page: Output[HTML],
    tables_so_far: OutputPath(dict),  # type: ignore[valid-type]
):
    """Clean, order and split the raw tables before `as_of`; `fingerprint` keys the cache.

    `tables_so_far` are the tables' folders or URIs by name, to which later steps add theirs.
    """
    from dataclasses import replace
    from pathlib import Path

    from components.etl.config import SequencesConfig
    from components.etl.outputs import TABLES, outputs
    from components.etl.sequences.job import run_sequences
    from components.shared.artifacts.outputs import write_json
    from components.shared.config import parse

    settings = replace(parse(SequencesConfig, config, "sequences"), as_of=as_of)
    run_sequences(settings, data, **outputs(settings.spark, sequences), page=Path(page.path))
    write_json(Path(tables_so_far), {name: f"{sequences.uri}/{name}" for name in TABLES})


@step()
def prompts(
    config: dict,
    fingerprint: str,
    tables: dict,
    base_model: Input[Model],
    prompts: Output[Dataset],
    page: Output[HTML],
    tables_so_far: OutputPath(dict),  # type: ignore[valid-type]
):
    """Render chat prompts with their answer keys; `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.etl.config import PromptsConfig
    from components.etl.outputs import inputs
    from components.etl.prompts.job import run_prompts
    from components.shared.artifacts.outputs import paths, write_json
    from components.shared.config import parse

    settings = parse(PromptsConfig, config, "prompts")
    run_prompts(
        settings,
        **inputs(settings.spark, tables, "sequences", "catalogue", "users", "candidates"),
        **paths(base_model=base_model, prompts=prompts, page=page),
        staging=None if settings.spark.is_local else f"{prompts.uri}-staging",
    )
    write_json(Path(tables_so_far), {**tables, "prompts": prompts.uri})
