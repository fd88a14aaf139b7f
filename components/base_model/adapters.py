"""A source that holds adapters alone: they are merged onto the model that they name."""

import warnings
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from components.base_model.config import BaseModelConfig
from components.base_model.repair import read_json
from components.shared import causes
from components.shared.errors import ModelError
from components.shared.language_model.checks import is_out_of_memory
from components.shared.language_model.load import check_folder
from components.shared.logs import logger

_CONFIG = "adapter_config.json"

log = logger("base model")


def are_alone(folder: Path) -> bool:
    """Return whether `folder` holds adapters without a model. Raises ModelError: it holds both."""
    if not (folder / _CONFIG).is_file():
        return False
    if (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: a model and adapters ({_CONFIG}) in one folder; take the adapters out if they are "
            "part of the weights already, else give them a folder of their own"
        )
    return True


def base_of(folder: Path) -> BaseModelConfig:
    """Return the source of the model that the adapters in `folder` belong to."""
    settings = read_json(folder / _CONFIG)
    name = settings.get("base_model_name_or_path")
    if not name:
        raise ModelError(f"{folder}: adapters alone, and {_CONFIG} names no base_model_name_or_path")
    return BaseModelConfig(source=name, revision=settings.get("revision") or "main")


def merge(adapters: Path, base: Path, target: Path) -> None:
    """Write the model in `base` with the `adapters` merged in to `target`, a plain model.

    Raises: ModelError if the adapters are no safetensors, cannot be merged, or belong to another model.
    """
    from peft import PeftModel

    check_folder(base)
    if not (adapters / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{adapters}: no adapter_model.safetensors; other formats can run code and are refused"
        )
    log.info("adapters alone: they are merged onto %s", base)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype="auto", use_safetensors=True, trust_remote_code=False
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys")  # they would go on untrained
            merged = PeftModel.from_pretrained(model, adapters, use_safetensors=True).merge_and_unload()
    except Exception as error:  # sizes that differ, kinds without a merge: each raises its own
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{adapters}: the adapters cannot be merged onto {base} ({causes.of_exception(error)})"
        ) from error
    merged.save_pretrained(target)
    has_tokenizer = (adapters / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapters if has_tokenizer else base, trust_remote_code=False)
    tokenizer.save_pretrained(target)
