"""FSDP2: a model and its optimiser in shards, whose state is saved and loaded whole, as without shards."""

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from components.sft import distributed


def shard(model: Any, dtype: torch.dtype) -> None:
    """Shard the weights over the workers and sum, not average, the gradients; compute in `dtype`.

    `model.state_dict()`, to be called by every worker, is then whole on the CPU of rank 0, empty elsewhere.
    """
    mesh = init_device_mesh(model.device.type, (distributed.size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for part in (*model.get_decoder().layers, model):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # the only kind that gloo has
    model.register_state_dict_post_hook(_gather_weights)


def shard_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimiser's state whole when it is saved and sharded when it is loaded."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def saved(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        moments = {
            number: {name: _gather(value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": moments}

    def loaded(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        moments = {
            number: {name: _like(weights[number], value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": moments}

    optimizer.register_state_dict_post_hook(saved)
    optimizer.register_load_state_dict_pre_hook(loaded)


def _like(weight: DTensor, whole: torch.Tensor) -> torch.Tensor:
    """Return `whole` sharded like `weight`; the step's count, a scalar, as it is."""
    if whole.shape != weight.shape:
        return whole
    on_device = whole.to(weight.device)
    return distribute_tensor(on_device, weight.device_mesh, weight.placements, src_data_rank=None)


def _gather_weights(model: torch.nn.Module, state: dict[str, Any], *_: Any) -> None:
    whole: dict[int, torch.Tensor] = {}  # by weight: tied ones stay one
    for name, weight in model.named_parameters(remove_duplicate=False):
        if id(weight) not in whole:
            whole[id(weight)] = _gather(weight.detach())
        state[name] = whole[id(weight)]
    if distributed.rank():
        state.clear()


def _gather(value: Any) -> Any:
    """Return `value`, on the CPU and whole if it is a shard."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value
