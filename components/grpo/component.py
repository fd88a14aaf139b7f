"""KFP wrapper of the step `grpo`."""

from kfp.dsl import HTML, Input, Model, Output, OutputPath

from components.step import step


@step()
def grpo(
    config: dict,
    fingerprint: str,
    checkpoints: str,
    tables: dict,
    sft_model: Input[Model],
    model: Output[Model],
    page: Output[HTML],
    alarms: OutputPath(dict),  # type: ignore[valid-type]
):
    """Improve the SFT model by GRPO.

    `fingerprint` names the user's own reward terms and the code; it keys the cache and the checkpoints.
    """
    from pathlib import Path

    from components.grpo.config import GrpoConfig
    from components.grpo.job import run
    from components.shared.artifacts.outputs import paths
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse

    run(
        parse(GrpoConfig, config, "grpo"),
        prompts=local_copy(tables["prompts"]),
        **paths(sft_model=sft_model, model=model, curves=page),
        alarms=Path(alarms),
        checkpoints=checkpoints,
        fingerprint=fingerprint,
    )
