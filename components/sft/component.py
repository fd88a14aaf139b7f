"""KFP wrapper of the step `sft`."""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.step import step


@step()
def sft(
    config: str,
    fingerprint: str,
    checkpoints: str,
    prompts: Input[Dataset],
    base_model: Input[Model],
    model: Output[Model],
    curves: Output[HTML],
    metrics: Output[Metrics],
):
    """Fine-tune the base model on answers; `config` is JSON, `fingerprint` only keys the cache."""
    from dataclasses import asdict

    from components.sft.config import SftConfig
    from components.sft.job import run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.config import parse

    report = run(
        parse(SftConfig, config, "sft"),
        **paths(prompts=prompts, base_model=base_model, model=model, curves=curves),
        checkpoints=checkpoints,
    )
    log_metrics(metrics, asdict(report))
