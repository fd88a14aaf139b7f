"""Which numbers the products of a training or of generation are made of."""

from typing import Literal

import torch

Dtype = Literal["auto", "float32", "bfloat16"]


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Return the torch type; "auto" is bfloat16 where it multiplies faster than float32.

    On a CPU that takes matrix tiles (AMX): with AVX-512 alone bfloat16 took twice float32's time.
    """
    if dtype == "auto":
        fast = torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
