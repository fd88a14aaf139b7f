"""Profiles: all configuration of a run in one YAML file, parsed strictly."""

import ast
import functools
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from components.base_model.config import BaseModelConfig
from components.etl.config import PromptsConfig, SequencesConfig
from components.evaluate.config import EvaluateConfig, GateConfig
from components.grpo.config import GrpoConfig
from components.register.config import RegisterConfig, RegistryConfig
from components.retrieve.config import TEACHER, EncoderConfig, RetrieveConfig
from components.sft.config import SftConfig
from components.shared.artifacts.storage import is_remote
from components.shared.config import from_mapping, strict
from components.shared.errors import ConfigError
from components.shared.prompting.settings import PromptSettings, ServingConfig
from data_contracts.evaluation import BASE_MODEL, CANDIDATE_ORDER, CHAMPION, SCORED_MODEL, UNFUSED_MODEL
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.placement import Placement, StepPlacement

FOLDER = Path(__file__).parent / "profiles"


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@strict
class Profile:
    """One section per step; `sample` sizes the generated log of runs without their own data."""

    sample: SampleConfig = field(default_factory=SampleConfig)
    sequences: SequencesConfig = field(default_factory=SequencesConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    base_model: BaseModelConfig = field(default_factory=BaseModelConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    register: RegistryConfig = field(default_factory=RegistryConfig)
    checkpoints: str = ""
    """Folder (on a volume) or s3:// URI from which killed steps resume; empty = none, locally the runs'."""
    placement: Placement | None = None
    """Where the steps run on a cluster; none = a profile for this machine."""

    def __post_init__(self) -> None:
        if self.sft.answers != "generate" and "online" in self.retrieve.sources:
            raise ValueError(
                f"sft.answers: {self.sft.answers!r} weighs the retriever's scores, and those of 'online' in "
                "retrieve.candidates_from are not known when a request is served; take 'online' out, or set "
                "sft.answers to generate"
            )
        learner, target = self.retrieve.blend.learner, self.prompts.target
        if (learner == TEACHER) != (target == TEACHER):
            raise ValueError(
                f"prompts.target: {target!r} and retrieve.blend.learner: {learner!r}; a teacher "
                "needs 'teacher' in both"
            )
        self._check_gate()
        if self.placement is None:
            return
        if not re.match("https?://", self.register.tracking_uri):
            found = repr(self.register.tracking_uri) if self.register.tracking_uri else "empty"
            raise ValueError(f"register.tracking_uri: {found}; pods need an MLflow server (http://…)")
        if "@" in self.register.tracking_uri:
            raise ValueError(
                "register.tracking_uri: holds a password; use MLFLOW_TRACKING_PASSWORD in `secrets`"
            )
        if self.checkpoints and not is_remote(self.checkpoints):
            for step in ("window", "retrieve", "sft", "grpo"):
                if not self.placement.steps()[step].mounts(self.checkpoints):
                    raise ValueError(f"checkpoints: {self.checkpoints!r} is on no volume of the step {step}")
        if self.retrieve.spark and not self.placement.retrieve.image:
            raise ValueError(
                "retrieve.spark: the trainer image has no Spark; name an image with the extras etl and train "
                "as placement.retrieve.image"
            )
        self._check_model("base_model", self.base_model, self.placement.base_model)
        self._check_model("retrieve.encoder", self.retrieve.encoder, self.placement.retrieve)

    def _check_gate(self) -> None:
        """Raise ValueError if the gate's rules name what no report can hold."""
        generates, scored = self.sft.answers == "generate", self.evaluate.scored
        if self.gate.reasoning_pays == "require" and not (generates and scored):
            raise ValueError(
                "gate.reasoning_pays: require compares generated answers with the same model's scores; set "
                "sft.answers to generate and evaluate.scored to true, or reasoning_pays to report"
            )
        reported = {CANDIDATE_ORDER, CHAMPION, BASE_MODEL, "sft", "best_conventional", *self.retrieve.ranked}
        reported |= {SCORED_MODEL} if generates and scored else set() if generates else {UNFUSED_MODEL}
        if unknown := sorted({*self.gate.beats} - reported):
            raise ValueError(f"gate.beats: '{unknown[0]}' is not one of {', '.join(sorted(reported))}")

    def _check_model(self, key: str, model: BaseModelConfig | EncoderConfig, step: StepPlacement) -> None:
        """Raise ValueError if `model`, which `step` loads, can change without being noticed."""
        if _HUB_ID.fullmatch(model.source) and not _COMMIT.fullmatch(model.revision):
            raise ValueError(f"{key}.revision: {model.revision!r} can change; pin a commit of the hub")
        if self.placement and step.mounts(model.source) and not self.placement.window.mounts(model.source):
            raise ValueError(
                f"{key}.source: {model.source!r} is on no volume of the step window, which fingerprints it"
            )

    def on_cluster(self, name: str) -> Placement:
        """Return the placement of this profile called `name`. Raises ConfigError: it has none."""
        if self.placement is None:
            raise ConfigError(f"profile '{name}': no `placement`, it is for this machine; take h800 or kind")
        return self.placement

    @property
    def shown(self) -> PromptSettings:
        """What prompts show, in training as in serving."""
        return PromptSettings(**{key.name: getattr(self.prompts, key.name) for key in fields(PromptSettings)})

    @property
    def registration(self) -> RegisterConfig:
        """The configuration of `register`: prompts as in training, tokens and dtype as in evaluation."""
        tokens, dtype = self.evaluate.max_new_tokens, self.evaluate.dtype
        serving = ServingConfig(**asdict(self.shown), max_new_tokens=tokens, dtype=dtype)
        return RegisterConfig(**asdict(self.register), serving=serving)


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which by itself silently keeps the last of two equal keys.

    A value that is none of its kind (the date 2025-13-01) is a YAML error, too.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # Errors of int(), date() and the like, which PyYAML lets through.
        except (ValueError, KeyError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{str(node.value)[:80]!r} is no {kind}", node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for n, key in enumerate(keys) if key in keys[:n]]:
            raise yaml.constructor.ConstructorError(None, None, f"key '{twice[0]}' twice", node.start_mark)
        return super().construct_mapping(node, deep)


def names() -> list[str]:
    """Return the profiles that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, changes: Mapping[str, Any] | None = None) -> Profile:
    """Return the profile called `name` (see `names`), or read from that YAML file.

    `changes` are nested like the file: a mapping changes the keys that it names, an empty mapping or
    any other value replaces. Mistakes raise ConfigError naming file and key.
    """
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"profile '{name}': neither one of {', '.join(names())} nor a YAML file")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader) or {}
        if changes and isinstance(values, dict):
            values = _changed(values, changes)
        return from_mapping(Profile, values, str(path))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # nested too deeply, or in itself
        raise ConfigError(f"{path}: not valid YAML ({error})") from error


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with `changes` merged in at every depth."""
    both = {
        name: _changed(values[name], change)
        for name, change in changes.items()
        if change and isinstance(change, Mapping) and isinstance(values.get(name), Mapping)
    }
    return {**values, **changes, **both}


def to_yaml(profile: Profile) -> str:
    """Return every key as YAML with its help and its default."""
    return "\n".join(_lines(profile, Profile())) + "\n"


def _lines(section: Any, default: Any, indent: str = "") -> Iterator[str]:
    for key in fields(section):
        value, usual = getattr(section, key.name), getattr(default, key.name)
        nested = is_dataclass(value)
        text = _help(type(section), key.name) or (type(value).__doc__ or "").partition("\n")[0]
        if get_origin(key.type) is Literal:
            text += f" One of {', '.join(get_args(key.type))}."
        if not nested or usual is None:
            text += f" Default: {_inline(usual)}"
        yield f"{indent}# {text}"
        if nested:
            yield f"{indent}{key.name}:"
            yield from _lines(value, usual or type(value)(), indent + "  ")
        else:
            yield f"{indent}{key.name}: {_inline(value)}"


def _help(section: type, name: str) -> str:
    """Return the docstring beneath a key on one line, or "" without one."""
    texts = (_docstrings(kind).get(name, "") for kind in section.__mro__ if is_dataclass(kind))
    return " ".join(next(filter(None, texts), "").split())


@functools.cache
def _docstrings(section: type) -> dict[str, str]:
    """Return the docstrings beneath the keys that `section` itself declares.

    pydantic reads them too, but at every import: a tenth of a second of each command and step.
    """
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    texts = {}
    for pair in pairwise(declared.body):  # type: ignore[attr-defined]
        match pair:
            case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[key] = text
    return texts


def _inline(value: Any) -> str:
    """Return `value` as YAML on one line."""
    plain = json.loads(json.dumps(value, default=asdict))  # tuples become lists
    return yaml.safe_dump(plain, default_flow_style=True, width=10**9).removesuffix("...\n").strip()
