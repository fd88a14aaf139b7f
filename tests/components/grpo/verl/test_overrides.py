"""What we hand to verl, composed by Hydra and checked by verl's own validation and classes."""

import dataclasses

import pytest

from components.grpo.config import RewardWeights, VerlConfig
from components.grpo.rewards import business_terms, score
from components.shared.config import parse
from components.shared.prompt_table import read_prompts

pytestmark = pytest.mark.verl


def test_verl_accepts_our_configuration(composed, config) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    composed = composed(config)
    assert need_reference_policy(composed)
    assert not need_critic(composed)
    validate_config(composed, use_reference_policy=True, use_critic=False)


def test_the_sizes_of_a_node_of_gpus(composed, config) -> None:
    """One update a step: as many samples in a mini-batch as in a batch; every GPU has a share of both."""
    from verl.utils.config import validate_config

    sized = dataclasses.replace(config, prompts_per_step=16, group_size=12, verl=VerlConfig())
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
    assert parse(RewardWeights, kwargs.weights).business == awkward


def test_verl_reads_our_table(composed, config, prompts_folder, sft_folder) -> None:
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset

    data = OmegaConf.merge(composed(config).data, {"max_prompt_length": 2048})
    tokenizer = AutoTokenizer.from_pretrained(sft_folder)
    dataset = RLHFDataset(str(prompts_folder / "train.parquet"), tokenizer, data)
    rows = read_prompts(prompts_folder, "train")
    assert len(dataset) == len(rows)
    for item, row in zip((dataset[n] for n in range(3)), rows, strict=False):
        assert item["raw_prompt"] == row.messages
        assert item["reward_model"]["ground_truth"]["labels"] == row.labels
        assert item["extra_info"]["candidates"] == row.candidates


def test_verl_loads_our_reward(composed, config, prompts_folder) -> None:
    import pyarrow.parquet as pq
    from verl.trainer.ppo.reward import get_custom_reward_fn

    weights = RewardWeights(lcs=2.0, business={"novelty": 0.5})
    reward = get_custom_reward_fn(composed(dataclasses.replace(config, reward=weights)))
    (record,) = pq.read_table(prompts_folder / "train.parquet").slice(0, 1).to_pylist()
    (row,) = read_prompts(prompts_folder, "train")[:1]
    text = f"<think>because of {row.tags[0][0]}</think><answer>{row.labels[0]}, 2, 3</answer>"
    expected = score(text, row, weights, business_terms(weights))
    told = reward(
        data_source=record["data_source"],
        solution_str=text.removeprefix("<think>"),  # which the chat template of this model writes
        ground_truth=record["reward_model"]["ground_truth"],
        extra_info=record["extra_info"],
    )
    expected["score"] = expected.pop("reward")
    assert told == expected
