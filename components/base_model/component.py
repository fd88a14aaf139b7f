"""KFP wrapper of the step `base_model`."""

from kfp.dsl import Model, Output

from components.step import step


@step()
def base_model(config: dict, fingerprint: str, model: Output[Model]):
    """Fetch the base model in safetensors; `fingerprint` only keys the cache."""
    from pathlib import Path

    from components.base_model.config import BaseModelConfig
    from components.base_model.job import run
    from components.shared.config import parse

    run(parse(BaseModelConfig, config, "base_model"), Path(model.path))
