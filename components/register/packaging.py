"""The MLflow model folder of a version: weights, code, signature, settings, pinned requirements."""

import dataclasses
import importlib.metadata
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array, Map

import components
from components.shared.artifacts.fingerprint import of_files
from components.shared.errors import ModelError
from components.shared.prompting.settings import ServingConfig

REQUIREMENTS = (
    "mlflow", "torch", "transformers", "safetensors", "jinja2", "numpy", "pandas", "pyarrow", "scipy",
    "filelock", "pydantic", "lightgbm",
)  # fmt: skip
_ROOT = Path(components.__file__).parents[1]
_SHIPPED = (
    "components/__init__.py",
    "components/retrieve/**/*.py",
    "components/serve/*.py",
    "components/shared/**/*.py",
    "data_contracts/*.py",
)


_IMPORT = re.compile(r"^( *)from ((?:components|data_contracts)\b)", re.MULTILINE)
_TEXT, _TEXTS = DataType.string, Array(DataType.string)


# Lists are read by the model, which names the place of a fault: MLflow's check of types inside them makes a
# pandas Series of every text, a millisecond per entry of a history, and takes no whole number as a score.
_LIST = Array(AnyType())

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(_LIST, "history"),
            ColSpec(_LIST, "candidates", required=False),
            ColSpec(Map(_TEXT), "profile", required=False),
            ColSpec(_TEXT, "now", required=False),
            ColSpec(_LIST, "interests", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(_TEXTS, "item_ids"),
            ColSpec(Array(DataType.double), "scores"),
            ColSpec(_TEXT, "rationale"),
            ColSpec(DataType.boolean, "valid"),
            ColSpec(DataType.long, "unknown_items"),
        ]
    ),
)

_SEEN = {"title": "Chengdu Travel Guide", "topic": "travel", "actions": ["view", "save"]}
EXAMPLE = pd.DataFrame(
    [
        {
            "history": [_SEEN | {"timestamp": "2026-01-01T09:30:00Z"}],
            "candidates": [
                {"item_id": "i1", "title": "Sichuan Cuisine at Home", "topic": "cooking"},
                {"item_id": "i2", "title": "A Weekend in Chongqing", "topic": "travel"},
            ],
            "profile": {"age": "31"},
            "now": "2026-01-03T18:00:00Z",
        }
    ]
)


def build(parts: Mapping[str, Path], serving: ServingConfig, folder: Path) -> Path:
    """Write the MLflow model folder `folder / "model"` around the folders `parts`.

    These are the Hugging Face folder `model`, and `retriever`, which the step retrieve saved.
    """
    code = _ship_code(folder)
    built = folder / "model"
    with _importable(code):
        mlflow.pyfunc.save_model(
            path=built,
            python_model=str(code / "components" / "serve" / "model.py"),
            artifacts={name: str(part) for name, part in parts.items()},
            model_config=dataclasses.asdict(serving),
            signature=SIGNATURE,
            input_example=EXAMPLE,
            code_paths=[str(code)],
            pip_requirements=requirements(parts["model"]),
        )
    return built


def _ship_code(folder: Path) -> Path:
    """Write the code to `folder` as a package with its own name; return the package.

    Python knows one module of a name: under the names used here, the second version that a process loads
    would run the code of the first, and a version the code that is installed.
    """
    sources = {path.relative_to(_ROOT): path for pattern in _SHIPPED for path in _ROOT.glob(pattern)}
    name = f"recllm_{of_files(sources.values(), _ROOT)}"
    for relative, source in sources.items():
        target = folder / name / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_IMPORT.sub(rf"\1from {name}.\2", source.read_text(encoding="utf-8")), "utf-8")
    return folder / name


@contextmanager
def _importable(package: Path) -> Iterator[None]:
    """Let MLflow, which runs a model's code when it saves it, import `package`."""
    before = set(sys.modules)
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in set(sys.modules) - before:
            if name.startswith(package.name):  # its folder will be gone
                del sys.modules[name]


def check_folder(model: Path) -> None:
    """Raise ModelError unless `model` is a Hugging Face folder in safetensors (torch is not needed)."""
    if not (model / "config.json").is_file() or not any(model.glob("*.safetensors")):
        raise ModelError(f"{model}: no model here; a folder with config.json and *.safetensors is expected")


def requirements(model: Path) -> list[str]:
    """Return what the version needs, with versions, as pip reads it."""
    return [_requirement(name, model) for name in REQUIREMENTS]


def _requirement(name: str, model: Path) -> str:
    """Return the requirement with the version that is installed here or that saved the model."""
    # The registering image may lack what only the training image has.
    try:
        return f"{name}=={importlib.metadata.version(name).split('+')[0]}"  # "+cpu" is in no public index
    except importlib.metadata.PackageNotFoundError:
        saved_by = json.loads((model / "config.json").read_text()).get("transformers_version")
        return f"{name}=={saved_by}" if name == "transformers" and saved_by else name
