"""KFP wrapper of the step `sft`."""

from kfp.dsl import HTML, Input, Model, Output

from components.step import step


@step()
def sft(
    config: dict,
    fingerprint: str,
    checkpoints: str,
    tables: dict,
    prompt: dict,
    base_model: Input[Model],
    model: Output[Model],
    page: Output[HTML],
):
    """Fine-tune the base model on answers; `prompt` is what prompts show, `fingerprint` keys the cache."""
    from components.sft.adaptation import Histories
    from components.sft.config import SftConfig
    from components.sft.job import run
    from components.shared.artifacts.outputs import paths
    from components.shared.artifacts.storage import local_copy
    from components.shared.config import parse
    from components.shared.prompting.settings import PromptSettings

    settings, histories = parse(SftConfig, config, "sft"), None
    if settings.adaptation.tokens:
        shown = parse(PromptSettings, prompt, "prompts")
        histories = Histories(local_copy(tables["sequences"]), local_copy(tables["catalogue"]), shown)
    run(
        settings,
        histories=histories,
        prompts=local_copy(tables["prompts"]),
        **paths(base_model=base_model, model=model, curves=page),
        checkpoints=checkpoints,
    )
