"""KFP wrapper of the step `sft`."""

from kfp.dsl import HTML, Input, Metrics, Model, Output

from components.step import step


@step()
def sft(
    config: dict,
    fingerprint: str,
    checkpoints: str,
    prompts: str,
    base_model: Input[Model],
    model: Output[Model],
    page: Output[HTML],
    metrics: Output[Metrics],
):
    """Fine-tune the base model on answers; `fingerprint` only keys the cache."""
    from dataclasses import asdict

    from components.sft.config import SftConfig
    from components.sft.job import run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse

    report = run(
        parse(SftConfig, config, "sft"),
        prompts=local_copy(prompts),
        **paths(base_model=base_model, model=model, curves=page),
        checkpoints=checkpoints,
    )
    log_metrics(metrics, asdict(report))
