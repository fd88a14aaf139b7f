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
    quarantine: Output[Dataset],
    data_docs: Output[HTML],
    metrics: Output[Metrics],
):
    """Clean, order and split the raw tables at `data`; `config` is JSON of SequencesConfig.

    `fingerprint` stands for the content of the data and the version of the code: it only keys the cache.
    """
    from components.etl.config import SequencesConfig
    from components.etl.job import SequencesOutputs, run_sequences
    from components.etl.outputs import folder_of, log_report
    from components.shared.config import parse

    tables = {"sequences": sequences, "catalogue": catalogue, "users": users, "quarantine": quarantine}
    paths = {name: folder_of(artifact) for name, artifact in {**tables, "data_docs": data_docs}.items()}
    report = run_sequences(parse(SequencesConfig, config, "sequences"), data, SequencesOutputs(**paths))
    log_report(report, metrics)


@step()
def prompts(
    config: str,
    sequences: Input[Dataset],
    catalogue: Input[Dataset],
    users: Input[Dataset],
    candidates: Input[Dataset],
    base_model: Input[Model],
    prompts: Output[Dataset],
    data_docs: Output[HTML],
    metrics: Output[Metrics],
):
    """Render chat prompts with their answer keys; `config` is JSON of PromptsConfig."""
    from components.etl.config import PromptsConfig
    from components.etl.job import PromptsInputs, PromptsOutputs, run_prompts
    from components.etl.outputs import folder_of, log_report
    from components.shared.config import parse

    tables = {"sequences": sequences, "catalogue": catalogue, "users": users, "candidates": candidates}
    inputs = {name: folder_of(artifact) for name, artifact in {**tables, "base_model": base_model}.items()}
    out = PromptsOutputs(prompts=folder_of(prompts), data_docs=folder_of(data_docs))
    log_report(run_prompts(parse(PromptsConfig, config, "prompts"), PromptsInputs(**inputs), out), metrics)
