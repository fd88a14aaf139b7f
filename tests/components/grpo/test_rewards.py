"""Every term with its arithmetic, and a table of tricks that must not pay."""

import dataclasses
import doctest
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.grpo import rewards
from components.grpo.config import RewardWeights
from components.grpo.progress import Progress
from components.grpo.rewards import already_seen, business_terms, lcs, outside, repeats, score, wrong_length
from components.grpo.rollout import validation_scores
from components.shared import metrics
from components.shared.errors import ConfigError
from components.shared.prompting.table import PromptRow

ROW = PromptRow(
    user_id="u",
    split="train",
    position=9,
    messages=[],
    labels=[4, 2],
    candidates=["a", "b", "c", "d", "e"],
    scores=[5.0, 4.0, 3.0, 2.0, 1.0],
    titles=["A", "B", "C", "D", "E"],
    history=[],
    tags=[["tea"], ["chess", "game"], ["tea"], ["chess"], ["go"]],
    novelty=[10.0, 5.0, 20.0, 8.0, 2.0],
    seen=[False, False, True, False, False],
    age_days=[400.0, 90.0, None, 0.0, 180.0],
    days_since_last=None,
    groups=[],
    label_items=["d", "b"],
    label_weights=[2.0, 2.0],
    answer_length=3,
    completion=None,
)
SECOND, THIRD = 1 / math.log2(3), 1 / 2


@pytest.mark.parametrize(
    ("ranking", "labels", "value"),
    [
        pytest.param([4, 2, 1], [4, 2], 1.0, id="ideal"),
        pytest.param([4, 1, 2], [4, 2], (1 + THIRD) / (1 + SECOND), id="a stranger between"),
        pytest.param([2, 4, 1], [4, 2], 1 / (1 + SECOND), id="wrong order: the better of the two counts"),
        pytest.param([1, 4, 3], [4], SECOND, id="one label at rank two"),
        pytest.param([1, 3], [4], 0.0, id="missed"),
        pytest.param([], [4], 0.0, id="nothing ranked"),
        pytest.param([1], [], 0.0, id="no label"),
    ],
)
def test_lcs(ranking: list[int], labels: list[int], value: float) -> None:
    assert lcs(ranking, labels) == pytest.approx(value)


def best_common(ranking: Sequence[int], labels: Sequence[int], weights: Sequence[float]) -> float:
    """Return the best sum over all subsequences of `ranking` that are subsequences of `labels`."""
    gain, best = dict(zip(labels, weights, strict=True)), 0.0
    for size in range(len(ranking) + 1):
        for ranks in itertools.combinations(range(len(ranking)), size):
            rest = iter(labels)
            if all(ranking[r] in rest for r in ranks):
                best = max(best, sum(gain[ranking[r]] / math.log2(r + 2) for r in ranks))
    return best


@given(st.permutations(range(5)), st.permutations(range(5)), st.integers(0, 5), st.integers(1, 5))
def test_lcs_equals_the_best_of_all_common_subsequences(ranking, labels, n: int, m: int) -> None:
    ranking, labels = ranking[:n], labels[:m]
    best = best_common(ranking, labels, [1.0] * m)
    ideal = sum(1 / math.log2(r + 2) for r in range(len(labels)))
    assert lcs(ranking, labels) == pytest.approx(best / ideal)
    for weight in (0.1, 1.0, 3.7):  # equal weights change no bit
        assert lcs(ranking, labels, [weight] * m) == lcs(ranking, labels)


@given(
    st.permutations(range(5)),
    st.permutations(range(5)),
    st.integers(0, 5),
    st.lists(st.floats(0.01, 100.0), min_size=1, max_size=5),
)
def test_weighted_lcs_is_the_share_of_the_best_that_any_ranking_attains(ranking, labels, n, weights) -> None:
    ranking, labels = ranking[:n], labels[: len(weights)]
    attainable = max(best_common(other, labels, weights) for other in itertools.permutations(labels))
    value = lcs(ranking, labels, weights)
    assert value == pytest.approx(best_common(ranking, labels, weights) / attainable, rel=1e-12)
    assert 0 <= value <= 1 + 1e-12


def test_weights_at_their_bounds() -> None:
    assert lcs([1, 2], [2, 1], [0.0, 0.0]) == 0.0
    # the best attainable is label 1 alone on the first rank: label 2 before it would cost more than it earns
    assert lcs([1, 3], [2, 1], [0.1, 3.0]) == pytest.approx(1.0)


def test_the_score_weighs_labels_by_engagement() -> None:
    row = dataclasses.replace(ROW, label_weights=[1.0, 3.0])
    text = "<think>Recent interests: chess, go.</think><answer>2, 4, 1</answer>"
    assert score(text, row, RewardWeights(), {})["lcs"] == pytest.approx(1.0)
    assert reward(text)["lcs"] == pytest.approx(1 / (1 + SECOND))


def test_the_examples_of_the_documentation() -> None:
    for module in (rewards, metrics):
        found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        assert found.attempted and not found.failed
    readme = Path(rewards.__file__).with_name("README.md")
    found = doctest.testfile(str(readme), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert found.attempted and not found.failed


def test_penalties_by_hand() -> None:
    assert repeats([3, 3, 3, 1]) == pytest.approx(1 / 2)
    assert outside([0, 1, 6, 5], 5) == pytest.approx(1 / 2)
    assert wrong_length([1, 2], 3) == pytest.approx(1 / 3)
    assert wrong_length(list(range(50)), 3) == 1.0
    assert repeats([]) == outside([], 5) == 0.0
    assert already_seen([3, 1, 2], ROW.seen) == pytest.approx(1 / 3)
    assert already_seen([], ROW.seen) == 0.0


def reward(text: str, weights: RewardWeights | None = None) -> dict[str, float]:
    weights = weights or RewardWeights()
    return score(text, ROW, weights, business_terms(weights))


IDEAL = "<think>Recent interests: chess, go.</think><answer>4, 2, 1</answer>"


def test_the_ideal_answer_earns_every_term() -> None:
    terms = reward(IDEAL)
    assert terms["reward"] == pytest.approx(1.0 + 0.4 + 0.1)
    assert [terms[name] for name in ("lcs", "format", "reasoning")] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "<think>Recent interests: chess, go.</think><answer>4, 2, 1, 3, 5</answer>", id="all candidates"
        ),
        pytest.param("<think>Recent interests: chess, go.</think><answer>4, 4, 4</answer>", id="repeats"),
        pytest.param("<think>Recent interests: chess, go.</think><answer>4, 2, 99</answer>", id="outside"),
        pytest.param("<think></think><answer>4, 2, 1</answer>", id="empty reasoning"),
        pytest.param("<answer>4, 2, 1</answer>", id="no reasoning"),
        pytest.param("<think>a<think>b</think></think><answer>4, 2, 1</answer>", id="nested"),
        pytest.param("<think>chess now and then</think><answer>4, 2, 1", id="unclosed"),
        pytest.param("<think>chess now and then</think><answer>4, 2, 1</answer> Enjoy!", id="text behind"),
        pytest.param(
            "<think>" + "chess " * 2000 + "</think><answer>4, 2, 1</answer>", id="12,000 characters"
        ),
        pytest.param(
            "<think>x y chess</think><answer>" + "4, 2, " * 2000 + "1</answer>", id="10,000 numbers"
        ),
        pytest.param("<think>x y chess</think><answer>\u0664, \u0662, \u0661</answer>", id="Unicode digits"),
        pytest.param("", id="nothing"),
    ],
)
def test_no_trick_earns_as_much_as_the_ideal_answer(text: str) -> None:
    assert reward(text)["reward"] < reward(IDEAL)["reward"] - 0.05


def test_listing_everything_earns_less_than_one_right_guess_of_three() -> None:
    everything = reward("<think>Recent interests: chess.</think><answer>1, 2, 3, 4, 5</answer>")
    guess = reward("<think>Recent interests: chess.</think><answer>4, 1, 3</answer>")
    assert everything["reward"] < guess["reward"]


def test_conditional_form_pays_only_beside_a_task_reward() -> None:
    weights = RewardWeights(conditional=True)
    assert reward(IDEAL, weights) == reward(IDEAL)
    missed = "<think>Recent interests: tea, go.</think><answer>1, 3, 5</answer>"
    assert reward(missed)["reward"] - reward(missed, weights)["reward"] == pytest.approx(0.4 + 0.1)
    assert reward(missed, weights)["reward"] == pytest.approx(-0.5 / 3)  # one of three was seen
    assert reward(missed, weights)["format"] == 1.0  # a term is logged as it is
    by_ndcg = RewardWeights(conditional=True, lcs=0.0, ndcg=1.0)
    assert reward(IDEAL, by_ndcg)["reward"] == pytest.approx(1.0 + 0.4 + 0.1)
    neither = RewardWeights(conditional=True, lcs=0.0)
    assert reward(IDEAL, neither)["reward"] == 0.0


def test_business_terms_are_weighted_and_logged_alone() -> None:
    terms = reward(IDEAL, RewardWeights(business={"ilad": 0.5, "novelty": 0.25}))
    # tags {chess}, {chess, game}, {tea}: distances 1/2, 1, 1; novelty (8 + 5 + 10) / 3 of 20 bits
    assert terms["ilad"] == pytest.approx(2.5 / 3)
    assert terms["novelty"] == pytest.approx(23 / 3 / 20)
    assert terms["reward"] == pytest.approx(1.5 + 0.5 * 2.5 / 3 + 0.25 * 23 / 60)


def test_what_the_user_has_seen_costs_and_what_is_fresh_can_pay() -> None:
    weights = RewardWeights(business={"fresh": 0.3})
    terms = reward("<think>Recent interests: chess, go.</think><answer>4, 2, 3</answer>", weights)
    assert terms["seen"] == pytest.approx(1 / 3)
    assert terms["fresh"] == pytest.approx((1 + 0.5 + 0) / 3)  # how old 3 is is not known
    assert terms["reward"] == pytest.approx(1.5 - 0.5 / 3 + 0.3 * 1.5 / 3)


def test_a_term_of_ones_own_and_its_faults() -> None:
    assert reward(IDEAL, RewardWeights(business={"test_own_terms:one": 1.0}))["reward"] == pytest.approx(2.5)
    for name, message in (("raises", "raised KeyError"), ("infinite", "returned inf")):
        with pytest.raises(ConfigError, match=message):
            reward(IDEAL, RewardWeights(business={f"test_own_terms:{name}": 1.0}))
    with pytest.raises(ConfigError, match="the weighted sum of the terms is inf"):
        reward(IDEAL, RewardWeights(lcs=1.0e308, format=1.0e308))
    absent = ("nowhere:one", "test_own_terms:absent", "freshest", ".relative:one")
    for name in (*absent, "test_leaving:one", "json:__doc__"):
        with pytest.raises(ConfigError, match=f"'{name}' is neither ilad nor novelty nor fresh"):
            business_terms(RewardWeights(business={name: 1.0}))


@pytest.fixture(autouse=True)
def own_terms(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "test_own_terms.py").write_text(
        "def one(answer, row): return 1.0\n"
        "def raises(answer, row): return {}['x']\n"
        "def infinite(answer, row): return float('inf')\n"
    )
    (tmp_path / "test_leaving.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("business", "best"),
    [
        pytest.param({}, 0, id="none: the more accurate"),
        pytest.param({"ilad": 0.0}, 0, id="no weight"),
        pytest.param({"ilad": 3.0}, 1, id="weight: the higher reward, 0.61 + 3 to 1 + 2.5"),
    ],
)
def test_with_business_terms_the_best_step_is_that_of_the_highest_reward(
    business: dict[str, float], best: int
) -> None:
    """NDCG@10 alone would never choose what diversity costs."""
    progress, weights = Progress(), RewardWeights(business=business)
    for text in ("<think></think><answer>4, 2, 1</answer>", "<think></think><answer>4, 1, 5</answer>"):
        progress.add_validation(validation_scores([text], [ROW], weights), [text])
        progress.add_step({})
    assert progress.best_step == best
