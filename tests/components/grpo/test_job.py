"""GRPO end to end on a tiny model: learns, resumes, hands the SFT model on when nothing was better."""

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from components.grpo import local, losses, page, rewards, rollout
from components.grpo.config import GrpoConfig
from components.grpo.job import run
from components.shared.errors import ConfigError, DataError, TrainingError
from components.shared.language_model import scoring
from components.shared.language_model.load import load
from components.shared.language_model.lora import LoraConfig
from components.shared.prompting.table import read_prompts

CONFIG = GrpoConfig(
    steps=4,
    prompts_per_step=2,
    group_size=4,
    learning_rate=1.0e-3,
    max_new_tokens=8,
    eval_every=2,
    eval_prompts=4,
    dtype="float32",
)


def outputs(folder: Path) -> dict[str, Path]:
    names = {"model": "model", "curves": "curves.html", "alarms": "alarms.json"}
    return {output: folder / name for output, name in names.items()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def pays_for_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense reward: the share of digits and commas in what is sampled."""

    def digits(text, row, weights, business):
        share = sum(letter in "0123456789," for letter in text) / max(1, len(text))
        return {"lcs": share, "reward": share}

    monkeypatch.setattr(rollout, "score", digits)


def test_a_random_model_that_never_ranks_hands_the_sft_model_on(
    prompts_folder, tiny_model_folder, tmp_path
) -> None:
    report = run(CONFIG, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    assert (report.steps, report.best_step) == (4, 0)
    before, after = weights(tiny_model_folder), weights(tmp_path / "model")
    assert all(torch.equal(before[name], after[name]) for name in before)
    page = (tmp_path / "curves.html").read_text()
    assert "kept: the SFT model" in page
    assert page.count("<details>") == 4
    assert "<p>SFT model</p>" in page


@pytest.mark.slow
def test_the_reward_rises(prompts_folder, sft_folder, tmp_path: Path, pays_for_digits) -> None:
    """A dense reward is learnt in a few steps."""
    config = dataclasses.replace(
        CONFIG, steps=10, group_size=16, max_new_tokens=10, learning_rate=5.0e-4, beta=0.0, eval_every=10
    )
    rows, valid = read_prompts(prompts_folder, "train"), read_prompts(prompts_folder, "valid", 2)
    rewards = local.train(config, sft_folder, rows, valid, tmp_path).history["reward"]
    assert sum(rewards[-3:]) / 3 > rewards[0] + 0.1


def test_a_prompt_longer_than_the_context_is_told_before_training(
    prompts_folder, tiny_model_folder, tmp_path
):
    config = dataclasses.replace(CONFIG, max_new_tokens=10**6)
    with pytest.raises(ConfigError, match=r"with its answer has \d+ tokens, .* the model's context of \d+"):
        run(config, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_scoring_model_is_judged_by_the_length_of_what_it_reads(
    prompts_folder, tiny_model_folder, monkeypatch
):
    """By titles alone it reads neither the chat prompt nor writes an answer."""
    lm, rows = load(tiny_model_folder, "float32", torch.device("cpu")), read_prompts(prompts_folder, "valid")
    config = dataclasses.replace(CONFIG, max_new_tokens=10**6)
    with pytest.raises(ConfigError, match=r"grpo\.max_new_tokens"):
        rollout.check_lengths(config, lm, rows)
    monkeypatch.setattr(rollout.Ranker, "of", lambda model: rollout.Ranker(answers="title_likelihood"))
    rollout.check_lengths(config, lm, rows)
    monkeypatch.setattr(scoring, "context_length", lambda model: 3)
    with pytest.raises(ConfigError, match=r"the model's context of 3; lower .* prompts.title_chars"):
        rollout.check_lengths(config, lm, rows)


@pytest.mark.parametrize("lora", [LoraConfig(), LoraConfig(rank=4)], ids=["weights", "adapters"])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    lora: LoraConfig, prompts_folder, tiny_model_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, save_every=2, lora=lora)
    kept: dict[str, dict[str, torch.Tensor]] = {}
    train = local.train

    def keeping(name):
        def spy(*args):
            state = train(*args)
            kept[name] = {key: value.clone() for key, value in state.policy.state_dict().items()}
            return state

        return spy

    monkeypatch.setattr(local, "train", keeping("whole"))
    run(config, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path / "whole"))
    update, calls = local._update, []

    def dies_in_step_four(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*args)

    inputs = {
        "prompts": prompts_folder,
        "sft_model": tiny_model_folder,
        "checkpoints": str(tmp_path / "checkpoints"),
    }
    monkeypatch.setattr(local, "_update", dies_in_step_four)
    with pytest.raises(KeyboardInterrupt):
        run(config, **inputs, **outputs(tmp_path / "cut"))
    monkeypatch.setattr(local, "train", keeping("resumed"))
    run(config, **inputs, **outputs(tmp_path / "cut"))
    assert len(calls) == 4 + 2, "steps 3 and 4 were run after the resume"
    assert all(torch.equal(kept["whole"][name], kept["resumed"][name]) for name in kept["whole"])


def test_a_policy_with_dropout_is_the_one_that_sampled(prompts_folder, tiny_model_folder, tmp_path) -> None:
    tokenizer = load(tiny_model_folder, "float32", torch.device("cpu")).tokenizer
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=2048)
    assert config.resid_pdrop > 0
    for part in (GPT2LMHeadModel(config), tokenizer):
        part.save_pretrained(tmp_path / "gpt2")
    rows, valid = read_prompts(prompts_folder, "train"), read_prompts(prompts_folder, "valid", 2)
    config = dataclasses.replace(CONFIG, steps=1, beta=0.1)
    history = local.train(config, tmp_path / "gpt2", rows, valid, tmp_path / "checkpoints").history
    assert history["kl"] == [pytest.approx(0, abs=1e-6)]


def test_rates_that_attention_hands_to_functions_are_dropout_too(tiny_model_folder, tmp_path) -> None:
    """Qwen, Mistral and Granite have no module of dropout in their attention."""
    lm = load(tiny_model_folder, "float32", torch.device("cpu"))
    for layer in lm.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    ids = torch.arange(20)[None]
    lm.model.train()
    local.switch_dropout_off(lm.model)
    one, other = (lm.model(input_ids=ids).logits for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("save_every", "kept"),
    [(0, {"best-3"}), (2, {"best-2", "best-3", "latest.pt"}), (3, {"best-3", "latest.pt"})],
)
def test_of_former_bests_only_the_one_that_a_checkpoint_names_is_kept(
    save_every: int,
    kept: set[str],
    prompts_folder,
    tiny_model_folder,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = iter(range(4))
    monkeypatch.setattr(
        local, "validate", lambda *a: ({"valid_ndcg@10": [float(next(figures))], "valid_share": [1.0]}, [])
    )
    config = dataclasses.replace(CONFIG, steps=3, eval_every=1, save_every=save_every)
    rows, valid = read_prompts(prompts_folder, "train"), read_prompts(prompts_folder, "valid", 2)
    local.train(config, tiny_model_folder, rows, valid, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize(("beta", "passes"), [(0.0, 2), (0.02, 4)])
def test_the_reference_is_read_only_for_a_kl_term(
    beta: float, passes: int, prompts_folder, tiny_model_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of two groups: a pass of the policy for each, and one of the reference if there is a KL."""
    calls, log_probs = [], rollout.token_log_probs
    monkeypatch.setattr(rollout, "token_log_probs", lambda *a: (calls.append(1), log_probs(*a))[1])
    config = dataclasses.replace(CONFIG, beta=beta, steps=1)
    run(config, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    assert len(calls) == passes


def test_adapters_are_sampled_from_merged_and_look_back_at_the_start(
    prompts_folder, sft_folder, tmp_path, pays_for_digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sampled from, and the best model that is handed on, are plain and hold what was learnt."""
    figures = iter(range(9))
    monkeypatch.setattr(
        local, "validate", lambda *a: ({"valid_ndcg@10": [float(next(figures))], "valid_share": [1.0]}, [])
    )
    config = dataclasses.replace(CONFIG, steps=2, lora=LoraConfig(rank=4), learning_rate=0.1)
    rows, valid = read_prompts(prompts_folder, "train"), read_prompts(prompts_folder, "valid", 2)
    state = local.train(config, sft_folder, rows, valid, tmp_path)
    assert state.history["kl"][0] == pytest.approx(0, abs=1e-9)
    assert state.history["kl"][1] > 0
    saved, start = weights(tmp_path / "best-2"), weights(sft_folder)
    assert saved.keys() == start.keys()
    assert any(not torch.equal(saved[name], start[name]) for name in start)
    sampler = local._Sampler(state.policy, None, torch.float32).refreshed()
    assert sampler.model is not state.policy
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(sampler.model(ids).logits, state.policy(ids).logits)


def test_figures_go_to_mlflow_as_training_goes(
    prompts_folder, tiny_model_folder, tmp_path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    run(CONFIG, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    client = MlflowClient(tracking_uri)
    (found,) = client.search_runs([client.get_experiment_by_name("recllm-r1").experiment_id])
    rewards = client.get_metric_history(found.info.run_id, "reward")
    assert [one.step for one in rewards] == [1, 2, 3, 4]
    validations = client.get_metric_history(found.info.run_id, "valid_ndcg_at_10")
    assert [one.step for one in validations] == [0, 2, 4]
    assert {"kl", "entropy", "lcs", "format", "answer_tokens"} <= found.data.metrics.keys()


def test_refusals(prompts_folder, tiny_model_folder, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"train\.parquet: no such file"):
        run(CONFIG, prompts=tmp_path, sft_model=tiny_model_folder, **outputs(tmp_path))
    monkeypatch.setattr(rewards, "wrong_length", lambda *args: float("nan"))
    with pytest.raises(ConfigError, match="weighted sum of the terms is nan"):
        run(CONFIG, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_not_finite_is_told(
    prompts_folder, tiny_model_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "group_advantages", lambda rewards, scale: rewards * float("nan"))
    with pytest.raises(TrainingError, match=r"lower grpo\.learning_rate"):
        run(CONFIG, prompts=prompts_folder, sft_model=tiny_model_folder, **outputs(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other shapes"])
def test_a_damaged_checkpoint_is_told_and_training_begins_anew(
    prompts_folder, sft_folder, tmp_path, damage: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    inputs = {
        "prompts": prompts_folder,
        "sft_model": sft_folder,
        "checkpoints": str(tmp_path / "checkpoints"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(page, "write", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(CONFIG, **inputs, **outputs(tmp_path))
    (file,) = tmp_path.glob("checkpoints/*/latest.pt")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        saved = torch.load(file, weights_only=True)
        saved["weights"] = {name: weights[:1] for name, weights in saved["weights"].items()}
        torch.save(saved if damage == "other shapes" else {"a": 1}, file)
    updates, update = [], local._update
    monkeypatch.setattr(local, "_update", lambda *args: updates.append(args) or update(*args))
    run(CONFIG, **inputs, **outputs(tmp_path))
    assert len(updates) == CONFIG.steps
    assert "latest.pt cannot be used" in caplog.text


def test_a_checkpoint_that_memory_is_too_small_for_is_not_given_up(
    prompts_folder, sft_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {
        "prompts": prompts_folder,
        "sft_model": sft_folder,
        "checkpoints": str(tmp_path / "checkpoints"),
    }
    monkeypatch.setattr(page, "write", _killed)
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, **inputs, **outputs(tmp_path))
    (file,) = tmp_path.glob("checkpoints/*/latest.pt")
    before = file.read_bytes()
    monkeypatch.setattr(torch, "load", _too_large)
    with pytest.raises(TrainingError, match="out of memory"):
        run(CONFIG, **inputs, **outputs(tmp_path))
    assert file.read_bytes() == before


def _killed(*args: object) -> None:
    raise KeyboardInterrupt


def _too_large(*args: object, **options: object) -> None:
    raise torch.OutOfMemoryError("of all")


@pytest.mark.parametrize(
    "name", ["eval_batch_size", "max_grad_norm", "clip", "train_layers", "max_prompts", "save_every", "seed"]
)
def test_sizes_that_cannot_train_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        GrpoConfig(**{name: -1})


@pytest.mark.parametrize(("rows", "prompts_per_step"), [(16, 4), (7, 4), (3, 8)])
def test_the_order_of_prompts_is_a_fresh_shuffle_per_epoch(rows: int, prompts_per_step: int) -> None:
    config = dataclasses.replace(CONFIG, prompts_per_step=prompts_per_step, seed=3)
    for step in range(9):
        expected = []
        for n in range(step * prompts_per_step, (step + 1) * prompts_per_step):
            order = list(range(rows))
            random.Random(f"3-{n // rows}").shuffle(order)
            expected.append(order[n % rows])
        assert local._batch(range(rows), config, step) == expected


@pytest.mark.parametrize(
    ("informative", "kept", "draws"),
    [
        pytest.param({*range(40)}, [0, 1, 2, 3], 1, id="all differ"),
        pytest.param({1, 3, *range(20, 40)}, [1, 3, 20, 21], 2, id="two are replaced"),
        pytest.param({2, 41}, [2, 41], 3, id="what is missing after two more draws stays missing"),
        pytest.param(set(), [40, 41, 42, 43], 3, id="none ever differs"),
    ],
)
def test_groups_of_equal_reward_are_replaced(informative, kept, draws: int, monkeypatch) -> None:
    config = dataclasses.replace(CONFIG, prompts_per_step=4, steps=5, refill=True)
    calls = []
    monkeypatch.setattr(local, "_batch", lambda rows, config, step: range(4 * step, 4 * step + 4))

    def drawn(lm, batch, *rest):
        calls.append(batch)
        rewards = [[{"reward": 0.5}, {"reward": 0.5 + (n in informative)}] for n in batch]
        return [SimpleNamespace(number=n, scores=scores) for n, scores in zip(batch, rewards, strict=True)]

    monkeypatch.setattr(local, "sample_groups", drawn)
    found = local._groups(None, [], config, {}, torch.Generator(), 0)
    assert ([group.number for group in found], len(calls)) == (kept, draws)
    del calls[:]
    plain = local._groups(None, [], dataclasses.replace(config, refill=False), {}, torch.Generator(), 0)
    assert ([group.number for group in plain], len(calls)) == ([0, 1, 2, 3], 1)
