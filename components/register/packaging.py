"""The MLflow model folder of a version: weights, code, signature, settings, pinned requirements."""

import dataclasses
import importlib.metadata
import json
import shutil
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, Map, Object, Property

import components
from components.register.config import ServingConfig
from components.shared.errors import ModelError

REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors", "jinja2", "numpy", "pandas", "pydantic")
_ROOT = Path(components.__file__).parents[1]
_SHIPPED = (
    "components/__init__.py",
    "components/shared/**/*.py",
    "components/register/__init__.py",
    "components/register/pyfunc.py",
    "data_contracts/*.py",
)


def _text(name: str, required: bool = True) -> Property:
    return Property(name, DataType.string, required=required)


_INTERACTION = Object(
    [
        _text("title"),
        _text("topic", required=False),
        _text("item_id", required=False),
        Property("actions", Array(DataType.string)),
        _text("timestamp"),
    ]
)
_CANDIDATE = Object([_text("item_id"), _text("title"), _text("topic", required=False)])
_INTEREST = Object([_text("topic"), Property("count", DataType.long)])

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(Array(_INTERACTION), "history"),
            ColSpec(Array(_CANDIDATE), "candidates"),
            ColSpec(Map(DataType.string), "profile", required=False),
            ColSpec(DataType.string, "now", required=False),
            ColSpec(Array(_INTEREST), "interests", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(Array(DataType.string), "item_ids"),
            ColSpec(DataType.string, "rationale"),
            ColSpec(DataType.boolean, "valid"),
        ]
    ),
)

EXAMPLE = pd.DataFrame(
    [
        {
            "history": [
                {
                    "title": "Chengdu Travel Guide",
                    "topic": "travel",
                    "actions": ["view", "save"],
                    "timestamp": "2026-01-01T09:30:00Z",
                }
            ],
            "candidates": [
                {"item_id": "i1", "title": "Sichuan Cuisine at Home", "topic": "cooking"},
                {"item_id": "i2", "title": "A Weekend in Chongqing", "topic": "travel"},
            ],
            "profile": {"age": "31"},
            "now": "2026-01-03T18:00:00Z",
        }
    ]
)


def build(model: Path, serving: ServingConfig, folder: Path) -> Path:
    """Write the MLflow model folder `folder / "model"` around the Hugging Face folder `model`.

    Raises:
        ModelError: `model` is not a folder of safetensors.
    """
    check_folder(model)
    code = folder / "code"
    for pattern in _SHIPPED:
        for source in _ROOT.glob(pattern):
            target = code / source.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    built = folder / "model"
    mlflow.pyfunc.save_model(
        path=built,
        python_model=str(_ROOT / "components" / "register" / "pyfunc.py"),
        artifacts={"model": str(model)},
        model_config=dataclasses.asdict(serving),
        signature=SIGNATURE,
        input_example=EXAMPLE,
        code_paths=[str(path) for path in sorted(code.iterdir())],
        pip_requirements=[_requirement(name, model) for name in REQUIREMENTS],
    )
    return built


def check_folder(model: Path) -> None:
    """Raise ModelError unless `model` is a Hugging Face folder in safetensors (torch is not needed)."""
    if not (model / "config.json").is_file() or not any(model.glob("*.safetensors")):
        raise ModelError(f"{model}: no model here; a folder with config.json and *.safetensors is expected")


def _requirement(name: str, model: Path) -> str:
    """Return the requirement with the version that is installed here or that saved the model."""
    # The registering image may lack what only the training image has.
    try:
        return f"{name}=={importlib.metadata.version(name).split('+')[0]}"  # "+cpu" is in no public index
    except importlib.metadata.PackageNotFoundError:
        saved_by = json.loads((model / "config.json").read_text()).get("transformers_version")
        return f"{name}=={saved_by}" if name == "transformers" and saved_by else name
