"""A key-value cache that grows in place: transformers' own copies everything for every new token."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

SPARE_TOKENS = 32  # added to a buffer that is full


def growing_cache(config: Any) -> DynamicCache:
    """Return an empty cache for a model of `config`; sliding-window layers stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def concatenate(caches: Sequence[DynamicCache]) -> DynamicCache:
    """Return the first cache with the rows of all `caches`, which hold equally many tokens."""
    if len(caches) > 1:
        layers: Any
        for layers in zip(*(cache.layers for cache in caches), strict=True):
            layers[0].keys = torch.cat([layer.keys for layer in layers])
            layers[0].values = torch.cat([layer.values for layer in layers])
    return caches[0]


class _GrowingLayer(DynamicLayer):
    """`keys` and `values` (batch, heads, tokens, size) are the filled part of larger buffers.

    Selecting or repeating rows replaces them by tensors without spare room, which the next token copies into
    a new buffer.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens and return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        keys, values = self._buffers_for(end)
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _buffers_for(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        is_current = self._buffers is not None and self._buffers[0].data_ptr() == self.keys.data_ptr()
        if self._buffers is None or not is_current or self._buffers[0].shape[-2] < tokens:
            self._buffers = (
                _enlarged(self.keys, tokens + SPARE_TOKENS),
                _enlarged(self.values, tokens + SPARE_TOKENS),
            )
        return self._buffers


def _enlarged(states: torch.Tensor, tokens: int) -> torch.Tensor:
    batch, heads, filled, size = states.shape
    buffer = states.new_empty(batch, heads, tokens, size)
    buffer[:, :, :filled] = states
    return buffer
