"""Trainable weights: all of them, those of the top layers, or low-rank adapters (LoRA)."""

import copy
from collections.abc import Iterator
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from components.shared.config import strict
from components.shared.errors import ConfigError


@strict
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021), by peft."""

    rank: NonNegativeInt = 0
    """Rank of the adapters; 0 = train the weights. Use about ten times the weights' learning rate."""
    alpha: PositiveInt = 32
    """Scale of the adapters: their product is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Names of the linear layers that get adapters; empty = all but the head."""


def set_trainable(model: Any, layers: int, lora: LoraConfig) -> Any:
    """Return `model` with gradients for trainable weights only, wrapped by peft if there are adapters.

    `layers` 0 trains all transformer layers, otherwise the topmost `layers` (without adapters also the last
    norm). Adapters are initialised from torch's random state and do not change what the model computes.

    Raises: ConfigError if the model has fewer layers, or lacks one of the adapters' target layers.
    """
    if not layers and not lora.rank:
        return model
    decoder = model.get_decoder()
    if not hasattr(decoder, "layers"):
        raise ConfigError(
            f"{type(decoder).__name__} does not list its layers: set train_layers and lora.rank to 0"
        )
    if layers > len(decoder.layers):
        raise ConfigError(f"train_layers is {layers}, but the model has {len(decoder.layers)} layers")
    if lora.rank:
        import peft
        from torch.nn import Linear

        first = len(decoder.layers) - layers if layers else 0
        modules = decoder.layers[first:].named_modules()
        # Their names within a layer: "q_proj", "down_proj" …
        linear = sorted({name.rpartition(".")[2] for name, module in modules if isinstance(module, Linear)})
        targets = lora.targets or linear
        if unknown := [name for name in targets if name not in linear]:
            raise ConfigError(f"lora.targets: no linear layer '{unknown[0]}'; there is {', '.join(linear)}")
        adapters = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules=list(targets),
            layers_to_transform=list(range(first, len(decoder.layers))),
        )
        return peft.get_peft_model(model, adapters)
    model.requires_grad_(False)
    for part in (*decoder.layers[-layers:], getattr(decoder, "norm", None)):
        if part is not None:
            part.requires_grad_(True)
    return model


def has_adapters(model: Any) -> bool:
    """Return whether `set_trainable` added adapters to `model`."""
    return hasattr(model, "merge_and_unload")


def merged_parameters(model: Any) -> Iterator[Any]:
    """Yield the parameters of `merge_adapters(model)` in its order, without building that model."""
    base = model.get_base_model() if has_adapters(model) else model
    adapted = {name: module for name, module in base.named_modules() if hasattr(module, "get_delta_weight")}
    for name, parameter in base.named_parameters():
        owner, _, leaf = name.rpartition(".base_layer.")
        if leaf == "weight" and owner in adapted:
            yield parameter + adapted[owner].get_delta_weight("default")
        elif ".lora_" not in name:
            yield parameter


def merge_adapters(model: Any) -> Any:
    """Return a plain model: `model` itself, or a copy with the adapters merged in."""
    return copy.deepcopy(model).merge_and_unload() if has_adapters(model) else model
