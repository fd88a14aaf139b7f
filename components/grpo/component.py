"""KFP wrapper of the step `grpo`."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components.step import step


@step()
def grpo(
    config: str,
    fingerprint: str,
    checkpoints: str,
    prompts: Input[Dataset],
    sft_model: Input[Model],
    model: Output[Model],
    curves: Output[HTML],
    metrics: Output[Metrics],
    alarms: Output[Artifact],
):
    """Improve the SFT model by GRPO; `config` is JSON of GrpoConfig.

    `fingerprint` names the user's own reward terms and the code; it keys the cache and the checkpoints.
    """
    from components.grpo.config import GrpoConfig
    from components.grpo.job import run
    from components.shared.artifacts.outputs import log_metrics, paths
    from components.shared.config import parse

    report = run(
        parse(GrpoConfig, config, "grpo"),
        **paths(prompts=prompts, sft_model=sft_model, model=model, curves=curves, alarms=alarms),
        checkpoints=checkpoints,
        fingerprint=fingerprint,
    )
    log_metrics(metrics, report.metrics())
