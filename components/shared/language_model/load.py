"""Loading a causal language model from a folder, and encoding chat messages as its tokens.

Weights are read from safetensors files only, and code beside a model is never run.
"""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from components.shared.config import Dtype
from components.shared.errors import ModelError
from components.shared.language_model.checks import is_out_of_memory
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.grammar import Grammar

Message = Mapping[str, str]


@dataclass(frozen=True)
class LanguageModel:
    """A causal model with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.model.device

    @property
    def stop_ids(self) -> frozenset[int]:
        """Return the token ids that end a completion: the tokenizer's and the generation config's."""
        return end_tokens(self.tokenizer, self.model.generation_config.eos_token_id)

    @cached_property
    def grammar(self) -> Grammar:
        """Return the answer format in the model's tokens."""
        return Grammar(self.tokenizer, self.stop_ids)


def load(folder: Path, dtype: Dtype = "auto", device: str | None = None) -> LanguageModel:
    """Return the model in `folder` for inference, in `dtype`, on a GPU if present.

    Raises: ModelError if the folder or its weights are missing or unreadable, or it has no chat template.
    """
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = load_tokenizer(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # a corrupt file can raise anything, deep inside the libraries
        if is_out_of_memory(error) or isinstance(error, ModelError | ImportError):
            raise
        raise ModelError(
            f"{folder}: the model cannot be loaded ({type(error).__name__}: {error}); is the folder complete?"
        ) from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"{folder}: {len(missing)} of the model's weights are missing, '{missing[0]}' among them; is the "
            "folder complete?"
        )
    torch.nn.Module.to(model, device or best_device())
    return LanguageModel(model.eval(), tokenizer)


def end_tokens(tokenizer: Any, configured: int | list[int] | None) -> frozenset[int]:
    """Return the tokenizer's end token and those that a generation configuration names."""
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in (*listed, tokenizer.eos_token_id) if i is not None)


def context_length(config: Any) -> int | None:
    """Return the most tokens that a model of `config` can read; None if not known.

    Of LongRoPE these are the original context's: beyond it all rows of a batch read with other frequencies.
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return int(rope["original_max_position_embeddings"])
    return getattr(config, "max_position_embeddings", None)


def best_device() -> str:
    """Return "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`, with a padding token. Raises ModelError: no usable chat template."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise ModelError(f"{folder}: the tokenizer has no chat template; use an instruction-tuned model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        answer_prefix(tokenizer)
    except Exception as error:  # a template is a program
        raise ModelError(f"{folder}: the chat template fails ({type(error).__name__}: {error})") from error
    return tokenizer


def release_memory() -> None:
    """Give back what models that nobody uses any more held."""
    gc.collect()
    torch.cuda.empty_cache()


def check_folder(folder: Path) -> None:
    """Raise ModelError unless `folder` holds a Hugging Face model in safetensors."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json; a Hugging Face model folder is expected")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: no *.safetensors file; other weight formats can run code when they are read and "
            "are refused. Convert the model with `save_pretrained(..., safe_serialization=True)`"
        )


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the token ids of `messages` and the beginning of the assistant's turn."""
    return tokenizer.apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, return_dict=True
    )["input_ids"]


def answer_prefix(tokenizer: Any) -> str:
    """Return the answer's beginning from the chat template: "<think>" for R1 models, else ""."""
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False
    )
    return "<think>" if rendered.rstrip().endswith("<think>") else ""


def encode_completion(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of the answer `text` after the prompt, end token included."""
    return [*encode_prefill(tokenizer, text), tokenizer.eos_token_id]


def encode_prefill(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of the beginning `text` of an answer after the prompt."""
    text = text.removeprefix(answer_prefix(tokenizer))
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
