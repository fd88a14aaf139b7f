"""What the compiled pipeline knows of a run's origin; its task `window` finds out the rest."""

import importlib.util
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
from components.window.config import ENDPOINT, GpuRequest, ModelSource, PreflightConfig, WindowConfig
from pipelines.placement import Placement
from pipelines.profile import Profile

WHEELS = {**BUNDLED_MODELS, **BUNDLED_ENCODERS}
_INSTALLED = {"site-packages", "dist-packages"}
_STEPS = {
    "sequences": "etl/sequences",
    "retrieve": "retrieve",
    "prompts": "etl/prompts",
    "base_model": "base_model",
    "sft": "sft",
    "grpo": "grpo",
    "evaluate": "evaluate",
}
"""The steps that a run's models and figures come from: folders in components by the profile's sections."""


def window_config(profile: Profile, name: str, *, fresh: bool = False) -> WindowConfig:
    """Return the configuration of `window` for the profile called `name`.

    `fresh`: data that a run has seen before get a window of their own.
    """
    settings = [to_json(getattr(profile, section)) for section in (*_STEPS, "registration")]
    # Whatever makes a step's cache miss belongs to the run's key, or the same key would get another model.
    code = [fingerprint.of_step(folder) for folder in _STEPS.values()]
    images = profile.placement.images_of(git_commit()) if profile.placement else []
    return WindowConfig(
        profile=name,
        as_of=profile.sequences.as_of,
        exposures=profile.sequences.exposures,
        needs_exposures=_needs_exposures(profile),
        sources=profile.sequences.sources,
        base_model=_source(profile.base_model),
        encoder=_source(profile.retrieve.encoder),
        lineage={
            "base_model": _described(profile.base_model),
            "prompt_version": PROMPT_VERSION,
            "reward_version": REWARD_VERSION,
            "rewards": of_reward(profile.grpo.reward),
        },
        settings=fingerprint.of_text(*settings, *code, *images),
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
        endpoint=placement.env.get(ENDPOINT, ""),
        checkpoints=profile.checkpoints,
        volumes=tuple(sorted(placement.window.volumes)),
        secrets=secrets,
        config_maps=config_maps,
        gpus=tuple(GpuRequest(products=products, gpus=number) for products, number in sorted(gpus)),
    )


def _needs_exposures(profile: Profile) -> str:
    if "online" in profile.gate.beats:
        return "gate.beats: online"
    return "gate.off_policy: require" if profile.gate.off_policy == "require" else ""


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
    """Return the fingerprint of the code of the user's own reward terms; "" without any.

    The code is each term's package, or module, and those that it imports from outside installed packages.
    """
    if not weights.business:
        return ""
    from components.grpo.rewards import business_terms

    # Modules of the working folder come first, as in the steps, which run as `python -m`.
    sys.path.insert(0, os.getcwd())
    try:
        business_terms(weights)
        sources = _own_sources({re.split("[.:]", term)[0] for term in weights.business if ":" in term})
    finally:
        sys.path.remove(os.getcwd())
    return fingerprint.of_text(*sources) if sources else ""


def _own_sources(named: set[str]) -> list[str]:
    """Return names and fingerprints of the packages `named` and of those they import."""
    from components.window.lineage import CODE

    found: dict[str, str] = {}
    waiting, seen = sorted(named), {*CODE, *sys.stdlib_module_names, "__main__"}
    while waiting:
        name = waiting.pop().split(".")[0]
        spec = None if name in seen else importlib.util.find_spec(name)
        seen.add(name)
        if spec is None:  # what an import under `try` may lack
            continue
        folders, pattern = [Path(folder) for folder in spec.submodule_search_locations or ()], "**/*.py"
        if not folders:
            folders, pattern = [Path(spec.origin or "").parent], Path(spec.origin or "").name
        if name in named or not any(_INSTALLED.intersection(folder.parts) for folder in folders):
            found[name] = fingerprint.of_text(*(fingerprint.of_folder(folder, pattern) for folder in folders))
            files = (file for folder in folders for file in folder.glob(pattern) if file.suffix == ".py")
            waiting += [imported for file in files for imported in fingerprint.imports(file)]
    return [part for name in sorted(found) for part in (name, found[name])]


def git_commit() -> str:
    """Return the commit of this code, with "-dirty" if tracked files changed; "" for none."""
    from components.window.lineage import git_commit

    return git_commit()
