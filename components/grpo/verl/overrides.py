"""Our configuration as overrides of verl's own entry point (verl 0.9: `python -m verl.trainer.main_ppo`).

https://verl.readthedocs.io/en/latest/examples/config.html
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.grpo.config import GrpoConfig
from components.grpo.verl import process, reward
from components.grpo.verl.attempt import Attempt
from components.shared.config import to_json

UNCLIPPED = 1.0e9
"""verl always clips the ratio; this far from 1 it never does."""

AGENT_LOOP = {"name": "one_turn", "_target_": "components.grpo.verl.agent_loop.OneTurn"}
"""Our agent loop as verl registers it; by name, because its module needs verl."""

_BACKSLASHES = re.compile(r"(\\+)(?='|$)")


def overrides(
    config: GrpoConfig,
    attempt: Attempt,
    *,
    model: Path,
    checkpoints: Path,
    resume_from: Path | None,
    longest_prompt: int,
    answer_prefix: str,
) -> dict[str, Any]:
    """Return verl's keys with our values; Hydra adds the keys that start with "+".

    The loss is `components/grpo/objective.py`: mean over answers of token means, k3 KL in the loss, one
    update per sample. `config.verl.overrides` comes last and wins. `checkpoints` is the folder of verl's
    checkpoints, `resume_from` one of them, `longest_prompt` in tokens, `answer_prefix` what the chat template
    writes of the answer.
    """
    verl, bounds = config.verl, UNCLIPPED if config.clip is None else config.clip
    compute = "float32" if config.dtype == "float32" else "bfloat16"
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    values: dict[str, Any] = {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": config.scale_advantages,
        "algorithm.use_kl_in_reward": False,
        "data.train_files": str(attempt.train),
        "data.val_files": str(attempt.valid),
        "data.train_batch_size": config.prompts_per_step,
        "data.max_prompt_length": longest_prompt,
        "data.max_response_length": config.max_new_tokens,
        "data.truncation": "error",
        "data.seed": config.seed,
        "data.trust_remote_code": False,
        "actor_rollout_ref.model.path": str(model),
        "actor_rollout_ref.model.trust_remote_code": False,
        "actor_rollout_ref.model.enable_gradient_checkpointing": config.gradient_checkpointing,
        # Without padding, sequences lie in one row, which needs an attention that knows their ends.
        "actor_rollout_ref.model.use_remove_padding": verl.attention == "flash_attention_2",
        "+actor_rollout_ref.model.override_config.attn_implementation": verl.attention,
        f"{actor}.optim.lr": config.learning_rate,
        f"{actor}.optim.weight_decay": 0.0,
        f"{actor}.optim.clip_grad": config.max_grad_norm,
        f"{actor}.ppo_mini_batch_size": config.prompts_per_step,
        f"{actor}.ppo_epochs": 1,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": verl.max_tokens_per_gpu,
        f"{actor}.loss_agg_mode": "token-mean" if config.token_mean else "seq-mean-token-mean",
        f"{actor}.clip_ratio": bounds,
        f"{actor}.clip_ratio_low": bounds,
        f"{actor}.clip_ratio_high": config.clip_high or bounds,
        f"{actor}.clip_ratio_c": UNCLIPPED,  # verl's second bound, which the paper has not
        f"{actor}.use_kl_loss": config.beta > 0,
        f"{actor}.kl_loss_coef": config.beta,
        f"{actor}.kl_loss_type": "low_var_kl",
        f"{actor}.entropy_coeff": 0.0,
        f"{actor}.calculate_entropy": True,
        f"{rollout}.name": "vllm",
        f"{rollout}.n": config.group_size,
        f"{rollout}.temperature": config.temperature,
        f"{rollout}.seed": config.seed,
        f"{rollout}.dtype": compute,
        f"{rollout}.tensor_model_parallel_size": verl.tensor_parallel,
        f"{rollout}.gpu_memory_utilization": verl.gpu_memory_utilization,
        f"{rollout}.agent.agent_loop_config_path": str(attempt.agent_loops),
        f"{rollout}.agent.default_agent_loop": AGENT_LOOP["name"],
        "reward.custom_reward_function.path": reward.__file__,
        "reward.custom_reward_function.name": reward.compute_score.__name__,
        "+reward.custom_reward_function.reward_kwargs.weights": to_json(config.reward),
        "+reward.custom_reward_function.reward_kwargs.prefix": answer_prefix,
        "+reward.custom_reward_function.reward_kwargs.terms_folder": str(attempt.terms),
        "trainer.logger": ["console", "file"],
        "trainer.n_gpus_per_node": verl.gpus_per_node,
        "trainer.nnodes": verl.nodes,
        # Every epoch has a step at least.
        "trainer.total_epochs": config.steps,
        "trainer.total_training_steps": config.steps,
        # The best model by validation is kept, so what is validated is saved.
        "trainer.save_freq": config.eval_every,
        "trainer.test_freq": config.eval_every,
        "trainer.val_before_train": resume_from is None,
        # Named, because verl's own tracker of the newest checkpoint is written in place.
        "trainer.resume_mode": "resume_path" if resume_from else "disable",
        "trainer.resume_from_path": str(resume_from) if resume_from else None,
        "trainer.default_local_dir": str(checkpoints),
        "trainer.rollout_data_dir": str(attempt.rollouts),
        "trainer.validation_data_dir": str(attempt.validations),
        "+ray_kwargs.ray_init.address": verl.ray_address or "local",
    }
    for role in ("actor", "ref"):
        engine = f"actor_rollout_ref.{role}"
        values[f"{engine}.strategy"] = "fsdp2"
        values[f"{engine}.fsdp_config.model_dtype"] = "fp32"
        values[f"+{engine}.fsdp_config.mixed_precision"] = {
            "param_dtype": compute,
            "reduce_dtype": "float32",
            "buffer_dtype": "float32",
        }
    # In Ray's environment, because workers may live on other nodes.
    environment = process.ENVIRONMENT | {"VERL_FILE_LOGGER_PATH": str(attempt.log)}
    for name, value in environment.items():
        values[f"+ray_kwargs.ray_init.runtime_env.env_vars.{name}"] = value
    return values | verl.overrides


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Return overrides as arguments in Hydra's grammar; any text is quoted."""
    return [f"{key}={_literal(value)}" for key, value in values.items()]


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str):
        # Within Hydra's quotes a quote is escaped, and so is a run of backslashes before one or at the end.
        return "'" + _BACKSLASHES.sub(r"\1\1", value).replace("'", r"\'") + "'"
    return repr(value)
