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
    """Fine-tune the base model on the answer format; `config` is JSON of SftConfig.

    `fingerprint` names the code; it only keys the cache.
    """
    from pathlib import Path

    from components.sft.config import SftConfig
    from components.sft.job import SftInputs, SftOutputs, run
    from components.shared.config import parse

    inputs = SftInputs(Path(prompts.path), Path(base_model.path), checkpoints)
    outputs = SftOutputs(Path(model.path), Path(curves.path), Path(metrics.path))
    for name, value in run(parse(SftConfig, config, "sft"), inputs, outputs).metrics().items():
        metrics.log_metric(name, value)
