"""Tests marked verl run in its own environment (`make test-verl`), the others everywhere."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.grpo.config import GrpoConfig, VerlConfig

CPU = VerlConfig(
    gpus_per_node=1,
    max_tokens_per_gpu=4096,
    overrides={
        "trainer.device": "cpu",
        "+ray_kwargs.ray_init.num_gpus": 1,
        "ray_kwargs.ray_init.num_cpus": 8,
        "actor_rollout_ref.actor.use_torch_compile": False,
        "actor_rollout_ref.ref.use_torch_compile": False,
        "actor_rollout_ref.rollout.enforce_eager": True,
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "+actor_rollout_ref.rollout.enable_sleep_mode": False,
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": 64,
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        "reward.num_workers": 1,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "data.dataloader_num_workers": 0,
    },
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs verl where it is not installed."""
    if item.get_closest_marker("verl"):
        pytest.importorskip("verl")


@pytest.fixture(scope="session")
def config() -> GrpoConfig:
    """Four steps on a CPU."""
    return GrpoConfig(
        engine="verl",
        steps=4,
        prompts_per_step=2,
        group_size=4,
        learning_rate=1.0e-3,
        temperature=0.3,  # at which the little that the model of the run test knows earns something
        max_new_tokens=48,
        eval_every=2,
        eval_prompts=4,
        dtype="float32",
        verl=CPU,
    )


@pytest.fixture(scope="session")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[GrpoConfig], Any]:
    """Compose verl's configuration as its entry point does, from our arguments."""
    from hydra import compose, initialize_config_module

    from components.grpo.verl.attempt import Attempt
    from components.grpo.verl.overrides import as_arguments, overrides

    folder = tmp_path_factory.mktemp("verl")
    attempt = Attempt.start(folder)

    def of(config: GrpoConfig) -> Any:
        values = overrides(
            config,
            attempt,
            model=folder / "it's a model",
            checkpoints=folder,
            resume_from=None,
            longest_prompt=300,
            answer_prefix="<think>",
        )
        arguments = as_arguments(values)
        with initialize_config_module("verl.trainer.config", version_base=None):
            return compose("ppo_trainer", overrides=arguments)

    return of


@pytest.fixture(scope="session")
def actor_config(composed, config: GrpoConfig) -> Callable[..., Any]:
    """verl's actor configuration as verl's workers make it, for ours with another clip range."""
    from verl.utils.config import omega_conf_to_dataclass

    @functools.cache
    def of(clip: float | None = None) -> Any:
        composition = composed(dataclasses.replace(config, clip=clip))
        return omega_conf_to_dataclass(composition.actor_rollout_ref.actor)

    return of


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let verl and vLLM run on this machine's CPU."""
    environment = {
        "PYTHONPATH": str(Path(__file__).parent),
        "VERL_USE_EXTERNAL_MODULES": "cpu_platform",
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",
        "VERL_ENGINE_VENDOR": "nvidia",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "KMP_BLOCKTIME": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
