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
    from pathlib import Path

    from components.sft.config import SftConfig
    from components.sft.job import run
    from components.shared.artifacts.outputs import log_metrics
    from components.shared.config import parse

    report = run(
        parse(SftConfig, config, "sft"),
        prompts=Path(prompts.path),
        base_model=Path(base_model.path),
        model=Path(model.path),
        curves=Path(curves.path),
        checkpoints=checkpoints,
    )
    log_metrics(metrics, asdict(report))
