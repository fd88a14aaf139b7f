"""What we hand to verl, composed by Hydra and checked by verl's own validation and classes."""

import dataclasses
import json
from pathlib import Path

import pytest

from components.grpo.config import RewardWeights, VerlConfig
from components.grpo.rewards import business_terms, score
from components.grpo.verl.overrides import AGENT_LOOP
from components.grpo.verl.reward import ANSWER_ID, row_of, write_dataset
from components.shared.config import from_mapping
from components.shared.prompting.table import read_prompts

pytestmark = pytest.mark.verl


def test_verl_accepts_our_configuration(composed, config) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    composed = composed(config)
    assert need_reference_policy(composed)
    assert not need_critic(composed)
    validate_config(composed, use_reference_policy=True, use_critic=False)


def test_the_sizes_of_a_node_of_gpus(composed, config) -> None:
    """One update a step: as many samples in a mini-batch as in a batch."""
    from verl.utils.config import validate_config

    sized = dataclasses.replace(
        config,
        prompts_per_step=16,
        group_size=12,
        dtype="bfloat16",
        verl=VerlConfig(attention="flash_attention_2"),
    )
    composed = composed(sized)
    validate_config(composed, use_reference_policy=True, use_critic=False)
    assert composed.data.train_batch_size == composed.actor_rollout_ref.actor.ppo_mini_batch_size == 16
    assert composed.actor_rollout_ref.rollout.n == 12
    assert composed.actor_rollout_ref.model.use_remove_padding
    assert composed.trainer.n_gpus_per_node == 8


def test_texts_survive_hydras_grammar(composed, config) -> None:
    awkward = {"a.b:it's \\": 0.5, 'say "x", {y}: [z]=\\\'': 0.1, "ünï": 1e-05}
    weights = dataclasses.replace(config, reward=RewardWeights(business=awkward))
    kwargs = composed(weights).reward.custom_reward_function.reward_kwargs
    assert from_mapping(RewardWeights, json.loads(kwargs.weights), "p").business == awkward


def test_verl_reads_what_we_write(composed, config, prompts_folder, sft_folder, tmp_path) -> None:
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    data = OmegaConf.merge(composed(config).data, {"max_prompt_length": 2048})
    tokenizer = AutoTokenizer.from_pretrained(sft_folder)
    rows = read_prompts(prompts_folder, "train")
    write_dataset(tmp_path / "train.parquet", rows)
    dataset = RLHFDataset(str(tmp_path / "train.parquet"), tokenizer, data)
    assert len(dataset) == len(rows)
    for index, row in enumerate(rows):
        assert dataset[index]["raw_prompt"] == row.messages
        assert dataset[index]["reward_model"]["ground_truth"] == index
        assert row_of(dataset[index]["extra_info"]) == row


def test_verl_loads_our_reward(composed, config, prompts_folder) -> None:
    from verl.trainer.ppo.reward import get_custom_reward_fn

    weights = RewardWeights(lcs=2.0, business={"novelty": 0.3})
    composition = composed(dataclasses.replace(config, reward=weights))
    reward = get_custom_reward_fn(composition)
    (row,) = read_prompts(prompts_folder, "train")[:1]
    text = f"<think>because of {row.tags[0][0]}</think><answer>{row.labels[0]}, 2, 3</answer>"
    expected = score(text, row, weights, business_terms(weights))
    value = reward(
        data_source="recllm",
        solution_str=text.removeprefix("<think>"),  # which the chat template of this model writes
        ground_truth=0,
        extra_info=vars(row) | {"num_turns": 2, ANSWER_ID: "u_0"},
    )
    assert value == pytest.approx(expected["reward"], abs=2**-17)
    (file,) = Path(composition.reward.custom_reward_function.reward_kwargs.terms_folder).iterdir()
    assert json.loads(file.read_text()) == expected | {ANSWER_ID: "u_0"}


def test_what_the_engines_compute_in(composed, config) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    for dtype, compute in (("float32", "float32"), ("auto", "bfloat16")):
        actor_rollout_ref = composed(dataclasses.replace(config, dtype=dtype)).actor_rollout_ref
        for role in ("actor", "ref"):
            engine = omega_conf_to_dataclass(actor_rollout_ref[role].fsdp_config)
            assert engine.mixed_precision["param_dtype"] == compute
        assert actor_rollout_ref.rollout.dtype == compute


def test_verls_own_keys_win_and_may_hold_mappings(composed, config) -> None:
    mine = {"trainer.save_freq": 7, "+actor_rollout_ref.rollout.engine_kwargs.vllm.x": {"y": [4, None]}}
    verl = dataclasses.replace(config.verl, overrides=config.verl.overrides | mine)
    found = composed(dataclasses.replace(config, verl=verl))
    assert found.trainer.save_freq == 7
    assert found.actor_rollout_ref.rollout.engine_kwargs.vllm.x == {"y": [4, None]}


def test_a_qwen_model_without_qwens_end_of_turn_can_be_asked(composed, config, sft_folder) -> None:
    """As DeepSeek-R1-Distill-Qwen is: verl's own agent loop refuses it."""
    from hydra.utils import instantiate
    from transformers import AutoTokenizer
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

    tokenizer = AutoTokenizer.from_pretrained(sft_folder)
    rendered = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.convert_tokens_to_ids = lambda token: None if token == "<|im_end|>" else rendered
    wrapped = DictConfigWrap(composed(config))
    given = {
        "trainer_config": wrapped,
        "server_manager": None,
        "tokenizer": tokenizer,
        "processor": None,
        "dataset_cls": None,
        "data_config": DictConfigWrap(composed(config).data),
        "hf_model_type": "qwen2",
    }
    with pytest.raises(ValueError, match="im_end"):
        SingleTurnAgentLoop(**given)
    assert isinstance(instantiate(AGENT_LOOP, **given), SingleTurnAgentLoop)
