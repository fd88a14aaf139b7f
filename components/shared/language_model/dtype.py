"""Compute dtype and float32 matmul precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from components.shared.config import Dtype


def torch_dtype(dtype: Dtype, device: torch.device | None = None) -> torch.dtype:
    """Return the torch type; "auto" is bfloat16 where `device` (None: the best) multiplies it faster."""
    if dtype == "auto":
        on_gpu = device.type == "cuda" if device else torch.cuda.is_available()
        return torch.bfloat16 if on_gpu or cpu_multiplies_bfloat16() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def cpu_multiplies_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions (AMX or AVX-512 BF16)."""
    # AVX-512 without them emulates bfloat16 in twice float32's time.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which a float32 model computes in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


@contextmanager
def bfloat16_matmul(enabled: bool) -> Iterator[None]:
    """Round the factors of a CPU's matrix products to bfloat16; sums and results stay float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if enabled else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
