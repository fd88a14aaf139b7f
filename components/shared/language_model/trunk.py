"""The first layers of several models, computed once where training has left them equal.

Training that changes only the topmost layers (`train_layers`) leaves most of a model as it was, and so does
scoring the same prompts by the base model, by SFT and by GRPO.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

KINDS = ("llama", "qwen2")
"""Model types that are embeddings, layers one after the other, a norm and a head, and nothing in between."""

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_EMBEDDINGS = "model.embed_tokens.weight"
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_HEAD = 1 << 30
"""In place of a layer's number: norm and head, which follow all layers."""

_WITHOUT_INFLUENCE = {"ranker", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "use_cache"}


def equal_layers(first: Path, second: Path) -> int:
    """Return how many first layers of the models in two folders are equal, embeddings included.

    0 if these are fewer than half, which would not be worth the memory of both models; if the models are
    not of one of KINDS; or if their configurations or tokenizers differ.
    """
    one, other = map(_description, (first, second))
    if one != other or one["model_type"] not in KINDS:
        return 0
    with ExitStack() as stack:
        weights, others = (_weights(folder, stack) for folder in (first, second))

        if _EMBEDDINGS not in weights:  # tied to a head that is stored in their place
            return 0

        def is_equal(name: str) -> bool:
            return name in others and torch.equal(weights[name]().float(), others[name]().float())

        # In order, as of the first difference nothing more needs to be read.
        names = sorted(weights, key=_layer)
        changed = next((name for name in names if _layer(name) < _HEAD and not is_equal(name)), None)
    total = int(one["num_hidden_layers"])
    depth = total if changed is None else max(0, _layer(changed))
    return depth if 2 * depth >= total else 0


class Trunk:
    """The first `depth` layers of `models`, which they have in common.

    Each of `uppers` stands for one of the models and gives its outputs; it computes these layers only if the
    one that was called before has read another input. The models themselves are of no use any more.
    """

    def __init__(self, models: Sequence[Any], depth: int) -> None:
        first = models[0].model
        # A copy that shares its weights with the first model, which loses its lower layers below.
        self._lower = copy.copy(first)
        self._lower._modules = dict(first._modules)
        kept = [layer if n < depth else _Same() for n, layer in enumerate(first.layers)]
        self._lower.layers, self._lower.norm = torch.nn.ModuleList(kept), _Same()
        self._read: dict[str, Any] = {}
        self._states = torch.empty(0)
        self.uppers = [_Upper(self, model, depth) for model in models]

    def states(self, **inputs: Any) -> torch.Tensor:
        """Return what the layers make of the `inputs` of a model, (rows, tokens, width)."""
        if not self._read or not all(_is_equal(self._read[name], given) for name, given in inputs.items()):
            self._read, self._states = inputs, self._lower(**inputs).last_hidden_state
        return self._states


class _Upper:
    """A model whose lower layers are those of a trunk."""

    def __init__(self, trunk: Trunk, model: Any, depth: int) -> None:
        self.config, self.device = model.config, model.device
        self._trunk, self._model = trunk, model
        for n in range(depth):
            model.model.layers[n] = _Same()

    def __call__(self, input_ids: torch.Tensor, logits_to_keep: Any = 0, **inputs: Any) -> Any:
        """Return the outputs of the whole model."""
        states = self._trunk.states(input_ids=input_ids, **inputs)
        return self._model(inputs_embeds=states, logits_to_keep=logits_to_keep, **inputs)


class _Same(torch.nn.Module):
    """In place of a layer: its output is its input."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


def _is_equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def _description(folder: Path) -> dict[str, Any]:
    """Return the configuration and the tokenizer of the model in `folder`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = {name: folder / name for name in _TOKENIZER}
    tokenizer = {name: path.read_bytes() for name, path in files.items() if path.exists()}
    return {key: value for key, value in config.items() if key not in _WITHOUT_INFLUENCE} | tokenizer


def _layer(name: str) -> int:
    """Return a weight's layer; _HEAD: of what follows, -1: any other, such as the embeddings."""
    if found := _LAYER.match(name):
        return int(found[1])
    return _HEAD if name in ("model.norm.weight", "lm_head.weight") else -1


def _weights(folder: Path, stack: ExitStack) -> Mapping[str, Callable[[], torch.Tensor]]:
    """Return what reads each weight of the model in `folder`, by name."""
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        file = stack.enter_context(safe_open(path, "pt"))
        names = file.keys()  # which cannot be iterated itself
        found |= {name: partial(file.get_tensor, name) for name in names}
    return found
