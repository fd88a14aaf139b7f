"""Profiles: all configuration of a run in one YAML file, parsed strictly."""

from collections.abc import Mapping
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from components.base_model.config import BaseModelConfig
from components.etl.config import PromptsConfig, SequencesConfig
from components.evaluate.config import EvaluateConfig, GateConfig
from components.grpo.config import GrpoConfig
from components.register.config import RegisterConfig, ServingConfig
from components.retrieve.config import RetrieveConfig
from components.sft.config import SftConfig
from components.shared.config import from_mapping, strict
from components.shared.errors import ConfigError
from components.shared.prompting.settings import PromptSettings
from pipelines.datasets.synthetic.config import SampleConfig

FOLDER = Path(__file__).parent / "profiles"


@strict
class Images:
    """The image of each dependency world; pin a digest or a commit, never `latest`."""

    spark: str = "recllm-r1/spark:0.1.0"
    """Image of the data steps."""
    trainer: str = "recllm-r1/trainer:0.1.0"
    """Image of retrieval, training and evaluation."""
    ops: str = "recllm-r1/ops:0.1.0"
    """Image of the gate and the registry."""


@strict
class Profile:
    """One section a step; `sample` sizes the generated log of a run without data of its own."""

    sample: SampleConfig = field(default_factory=SampleConfig)
    sequences: SequencesConfig = field(default_factory=SequencesConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    base_model: BaseModelConfig = field(default_factory=BaseModelConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    images: Images = field(default_factory=Images)

    def __post_init__(self) -> None:
        """Make the registered model ask as it was trained and answer as it was judged."""
        followed: dict[str, tuple[str, Any]] = {
            f.name: ("prompts", self.prompts) for f in fields(PromptSettings)
        }
        followed["max_new_tokens"] = ("evaluate", self.evaluate)
        default = ServingConfig()
        for name, (section, config) in followed.items():
            mine, its = getattr(self.register.serving, name), getattr(config, name)
            if mine not in (its, getattr(default, name)):
                raise ValueError(
                    f"register.serving.{name} is {mine!r} but {section}.{name} is {its!r}; "
                    f"leave it out: serving follows '{section}'"
                )
        shared = {name: getattr(config, name) for name, (_, config) in followed.items()}
        serving = replace(self.register.serving, **shared)
        object.__setattr__(self, "register", replace(self.register, serving=serving))


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, which by itself lets the last of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for n, key in enumerate(keys) if key in keys[:n]]:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice[0]}' twice", node.start_mark)
        return super().construct_mapping(node, deep)


def names() -> list[str]:
    """Return the profiles that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, changes: Mapping[str, Any] | None = None) -> Profile:
    """Load a profile by its name (see `names`) or by the path of a YAML file.

    `changes` are nested like the file: a mapping changes the keys that it names (an empty one
    leaves none), anything else replaces.

    Raises:
        ConfigError: no such profile, not YAML, an unknown key or a wrong type; names file and key.
    """
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"profile '{name}': neither one of {', '.join(names())} nor a YAML file")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from error
    values = values or {}
    if changes and isinstance(values, dict):
        values = _changed(values, changes)
    return from_mapping(Profile, values, str(path))


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` in their place, however deep."""
    both = {
        name: _changed(values[name], change)
        for name, change in changes.items()
        if change and isinstance(change, Mapping) and isinstance(values.get(name), Mapping)
    }
    return {**values, **changes, **both}
