"""Rankings by score: every ranking of four candidates enumerated, and GRPO on a scoring model."""

import dataclasses
from itertools import permutations
from pathlib import Path

import pytest
import torch

from components.grpo import local
from components.grpo.config import GrpoConfig, RewardWeights
from components.grpo.job import run
from components.grpo.losses import Reference
from components.grpo.objective import group_advantages, policy_loss
from components.grpo.plackett_luce import credited_ranks, ranking_log_probs, sample_rankings
from components.grpo.rewards import ndcg
from components.grpo.rollout import micro_batches, sample_groups
from components.shared.errors import ConfigError
from components.shared.language_model import scoring
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from components.shared.metrics import judge, numbered, padded
from components.shared.prompting.table import read_prompts

LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_all_rankings_are_a_distribution_and_drawn_by_it(length: int) -> None:
    rankings = torch.tensor(list(permutations(range(4), length)))
    log_probs, entropy = ranking_log_probs(LOGITS, rankings)
    odds = LOGITS.exp()
    for row, ranking in zip(log_probs, rankings.tolist(), strict=True):
        left = float(odds.sum())
        for found, candidate in zip(row.tolist(), ranking, strict=True):
            assert found == pytest.approx(float((odds[candidate] / left).log()))
            left -= float(odds[candidate])
    exact = log_probs.sum(1).exp()
    assert float(exact.sum()) == pytest.approx(1.0)
    first = torch.distributions.Categorical(logits=LOGITS).entropy()
    assert entropy[:, 0].tolist() == pytest.approx([float(first)] * len(rankings))
    drawn = sample_rankings(LOGITS, 100_000, length, torch.Generator().manual_seed(0))
    shares = [float((drawn == ranking).all(1).double().mean()) for ranking in rankings]
    assert shares == pytest.approx(exact.tolist(), abs=0.006)


def test_the_mean_gradient_is_that_of_the_expected_reward() -> None:
    """Over all rankings by their probability: advantage times score is the exact gradient (REINFORCE)."""
    rankings = torch.tensor(list(permutations(range(4))))
    rewards = torch.tensor(
        [1.0 / (1 + ranking.index(1)) for ranking in rankings.tolist()], dtype=torch.float64
    )
    logits = LOGITS.clone().requires_grad_()
    log_probs, _ = ranking_log_probs(logits, rankings)
    (exact,) = torch.autograd.grad((log_probs.sum(1).exp() * rewards).sum(), logits, retain_graph=True)
    weights = log_probs.sum(1).detach().exp()
    # Its advantages weighted by probability, over 24 rankings of 4 ranks each.
    advantages = 24 * 4 * weights * group_advantages(rewards[None], scale=False)[0]
    loss = policy_loss(log_probs, log_probs.detach(), advantages[:, None], torch.ones(24, 4))
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(-found, exact)


def test_credit_goes_to_the_ranks_that_can_change_where_labels_stand() -> None:
    one, two = torch.tensor([False, True, False, False]), torch.tensor([False, True, True, False])
    rankings = torch.tensor([[0, 1, 2], [0, 2, 3]])
    assert credited_ranks(rankings, one).tolist() == [[True, True, False], [True, True, True]]
    assert credited_ranks(torch.tensor([[2, 1, 0]]), two).tolist() == [[True, True, False]]
    assert credited_ranks(rankings[:, :2], two).all()


@pytest.mark.parametrize(("labels", "length"), [({1}, 2), ({1}, 3), ({1, 2}, 3)])
def test_credit_to_the_label_has_the_same_mean_gradient_and_less_noise(labels: set[int], length: int) -> None:
    rankings = torch.tensor(list(permutations(range(4), length)))
    is_label = torch.tensor([number in labels for number in range(4)])
    credit = credited_ranks(rankings, is_label)
    rewards = torch.tensor(
        [
            sum(1.0 / (1 + rank) for rank, number in enumerate(ranking) if number in labels)
            for ranking in rankings.tolist()
        ],
        dtype=torch.float64,
    )
    logits = LOGITS.clone().requires_grad_()
    log_probs, _ = ranking_log_probs(logits, rankings)
    odds = log_probs.sum(1).detach().exp()

    def gradients(credits: torch.Tensor) -> torch.Tensor:
        """Return each ranking's own, (rankings, candidates)."""
        each = (log_probs * credits).sum(1) * rewards
        return torch.stack([torch.autograd.grad(one, logits, retain_graph=True)[0] for one in each])

    plain, credited = gradients(torch.ones_like(credit)), gradients(credit)
    means = [odds @ found for found in (plain, credited)]
    torch.testing.assert_close(*means)
    noise = [(odds @ (found - mean) ** 2).sum() for found, mean in zip((plain, credited), means, strict=True)]
    assert noise[1] < noise[0]


@pytest.fixture(scope="module")
def scoring_model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lm, folder = load(tiny_model_folder, "float32"), tmp_path_factory.mktemp("scoring")
    Ranker("label_logits", scale=1.0, fuse=0.1).write(lm.model)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


CONFIG = GrpoConfig(
    steps=30,
    prompts_per_step=4,
    group_size=8,
    max_prompts=4,
    learning_rate=5.0e-3,
    beta=0.0,
    eval_every=30,
    eval_prompts=6,
    dtype="float32",
    reward=RewardWeights(lcs=0.0, ndcg=1.0),
)


@pytest.mark.parametrize(
    "options",
    [{}, {"scale_advantages": False, "token_mean": True, "refill": True}, {"credit_to_label": True}],
)
def test_the_reward_of_rankings_rises(options, prompts_folder, scoring_model, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, **options)
    files = {"model": "model", "curves": "curves.html", "alarms": "alarms.json"}
    out = {output: tmp_path / name for output, name in files.items()}
    report = run(config, prompts=prompts_folder, sft_model=scoring_model, **out)
    assert report.steps == 30
    assert report.last_reward > report.first_reward + 0.1
    assert Ranker.read(out["model"]) == Ranker("label_logits", scale=1.0, fuse=0.1)


@pytest.mark.parametrize("answers", ["label_logits", "title_likelihood"])
def test_groups_of_one_pass_have_the_loss_and_gradients_of_each(
    answers, prompts_folder, scoring_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(scoring_model, "float32")
    Ranker(answers, scale=1.0, fuse=0.1).write(lm.model)
    lm.model.double()
    config = dataclasses.replace(CONFIG, beta=0.5, temperature=0.8)
    rows = read_prompts(prompts_folder, "train", 5)
    groups = sample_groups(lm, rows, config, {}, torch.Generator().manual_seed(0))
    reference = Reference(load(scoring_model, "float32").model.double(), torch.float64)
    torch.nn.init.normal_(next(reference.copy.parameters()), std=0.1)  # so that there is a KL

    def update(tokens: int) -> tuple[int, dict[str, float], dict[str, torch.Tensor]]:
        monkeypatch.setattr(scoring, "CPU_TOKENS", tokens)
        gradients = {}

        class Kept(torch.optim.SGD):
            def step(self) -> None:
                gradients.update({n: p.grad.clone() for n, p in lm.model.named_parameters()})

        state = local.State(policy=lm.model, optimizer=Kept(lm.model.parameters(), lr=0.0))
        figures = local._update(state, reference, groups, config, torch.float32)
        return len(micro_batches(groups, lm.device)), figures, gradients

    together, each = update(100_000), update(1)
    assert (together[0], each[0]) == (1, 5)
    assert each[1]["kl"] > 0
    assert together[1] == pytest.approx(each[1], rel=1e-6)
    for name, gradient in each[2].items():
        torch.testing.assert_close(together[2][name], gradient, atol=1e-6, rtol=1e-4)


def test_the_reward_is_the_evaluations_ndcg(prompts_folder) -> None:
    row = dataclasses.replace(
        read_prompts(prompts_folder, "train", 1)[0],
        labels=[2, 5],
        label_items=["i1", "i4", "elsewhere"],
        label_weights=[3.0, 1.0, 2.0],
        candidates=[f"i{n}" for n in range(6)],
        answer_length=3,
    )
    for ranking in ([2, 5, 1], [1, 5, 2], [4], []):
        items = [[row.candidates[number - 1] for number in ranking]]
        judged = judge(*numbered(items, [row.label_items]), padded([row.label_weights], 0.0))
        assert ndcg(ranking, row) == pytest.approx(float(judged.ndcg(3)[0]))


def test_verl_refuses_a_scoring_model_and_options_that_are_not_its(prompts_folder, scoring_model) -> None:
    with pytest.raises(ValueError, match="clip_high needs clip"):
        GrpoConfig(clip_high=0.3)
    with pytest.raises((ValueError, ConfigError), match="refill is of the local engine"):
        GrpoConfig(engine="verl", refill=True, prompts_per_step=8, group_size=8)
    with pytest.raises((ValueError, ConfigError), match="credit_to_label is of the local engine"):
        GrpoConfig(engine="verl", credit_to_label=True, prompts_per_step=8, group_size=8)
    with pytest.raises(ValueError, match="business terms look at all ranks"):
        GrpoConfig(credit_to_label=True, reward=RewardWeights(business={"ilad": 0.1}))
    with pytest.raises((ValueError, ConfigError), match="objective sft is of the local engine"):
        GrpoConfig(engine="verl", objective="sft", prompts_per_step=8, group_size=8)
