"""A key-value cache that grows in place: transformers' own copies everything for every new token."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 32  # tokens of spare room that a full buffer is given


def growing_cache(config: Any) -> DynamicCache:
    """Return an empty cache for a model of `config`; layers with a sliding window stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def joined(caches: Sequence[DynamicCache]) -> DynamicCache:
    """Return one cache with the rows of all `caches`, which hold equally many tokens; the first is reused."""
    whole, *others = caches
    if others:
        for number in range(len(whole.layers)):
            same: list[Any] = [cache.layers[number] for cache in caches]
            same[0].keys = torch.cat([layer.keys for layer in same])
            same[0].values = torch.cat([layer.values for layer in same])
    return whole


class _GrowingLayer(DynamicLayer):
    """`keys` and `values` (batch, heads, tokens, size) are the filled part of larger buffers.

    Whatever replaces them (selecting or repeating rows) leaves tensors without spare room; the next
    token then moves them into a new buffer, once.
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
        keys, values = self._with_room(end)
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def _with_room(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        mine = self._buffers is not None and self._buffers[0].data_ptr() == self.keys.data_ptr()
        if self._buffers is None or not mine or self._buffers[0].shape[-2] < tokens:
            self._buffers = (_moved(self.keys, tokens + ROOM), _moved(self.values, tokens + ROOM))
        return self._buffers


def _moved(states: torch.Tensor, tokens: int) -> torch.Tensor:
    batch, heads, filled, size = states.shape
    buffer = states.new_empty(batch, heads, tokens, size)
    buffer[:, :, :filled] = states
    return buffer
