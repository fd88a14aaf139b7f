"""Slices: who is in them, and differences within them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from components.evaluate.comparison import interval, resampled_means
from components.evaluate.scores import Scores
from components.evaluate.slices import MOST_GROUPS, slices
from components.evaluate.tables import catalogue_of
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import Sample, Slice

ITEMS = "abcdefghij"
CATALOGUE = catalogue_of(dict.fromkeys(ITEMS, "t"), [() for _ in ITEMS], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
"""The head is a and b; j has no interactions."""
USERS = 240


def sample() -> Sample:
    return Sample(
        split="test",
        users=USERS,
        users_available=USERS,
        seed=3,
        candidates=5,
        recall_ceiling=1.0,
        catalogue_items=len(ITEMS),
        confidence=0.95,
        bootstrap_samples=500,
    )


@pytest.fixture
def prompts(world) -> list[PromptRow]:
    """Labels a to j in turn; histories of 1 to 240 items; every second user female, one of another group."""
    row = PromptRow(**world.rows[0])
    return [
        dataclasses.replace(
            row,
            position=u + 1,
            label_items=[ITEMS[u % 10]],
            days_since_last=None if u == 0 else float(u),
            groups=["gender f"] if u % 2 else ["gender x"] if u == 0 else [],
        )
        for u in range(USERS)
    ]


def scores(name: str, values: Sequence[float]) -> Scores:
    by_k = {"recall_by_k": (), "ndcg_by_k": ()}
    return Scores(name=name, kind="llm", values={"ndcg@10": np.array(values)}, overall={}, **by_k)


def found(prompts: list[PromptRow], *all_scores: Scores) -> dict[str, Slice]:
    return {part.name: part for part in slices(prompts, all_scores, CATALOGUE, sample())}


def test_who_is_in_each_slice(prompts):
    parts = found(prompts, scores("grpo", [1.0] * USERS))
    assert {name: part.users for name, part in parts.items()} == {
        "short histories": 80,
        "long histories": 80,
        "tail items": 192,  # all labels but a and b
        "new items": 24,
        "long away": 80,  # of the 239 users who have been there before
        "gender f": 120,
    }
    assert "at most 80 items" in parts["short histories"].rule


def test_a_few_users_are_no_slice(prompts):
    """Six of 60 have a new item as label; one is of gender x."""
    few = prompts[:60]
    assert set(found(few, scores("grpo", [1.0] * 60))) == {
        "short histories",
        "long histories",
        "tail items",
        "long away",
        "gender f",
    }


def test_the_largest_groups_are_slices(prompts):
    tiers = [*range(MOST_GROUPS + 5), 30, 30, 30]
    rows = [dataclasses.replace(prompts[0], groups=[f"tier {tier}"]) for tier in tiers for _ in range(20)]
    parts = found(rows, scores("grpo", [1.0] * len(rows)))
    groups = [name for name in parts if name.startswith("tier")]
    assert len(groups) == MOST_GROUPS and "tier 30" in groups


def test_differences_are_those_of_the_slices_users(prompts):
    generator = np.random.default_rng(0)
    worse_for_new = np.where(np.arange(USERS) % 10 == 9, 0.1, 0.6) + generator.random(USERS) / 100
    base = scores("sasrec", [0.5] * USERS)
    parts = found(prompts, base, scores("grpo", worse_for_new.tolist()))
    (difference,) = parts["new items"].differences
    assert (difference.model, difference.baseline) == ("grpo", "sasrec")
    assert difference.mean == pytest.approx(worse_for_new[9::10].mean() - 0.5)
    stacked = np.stack([base.values["ndcg@10"][9::10], worse_for_new[9::10]])
    means = resampled_means(stacked, 500, 3)
    expected = interval(means[1] - means[0], 0.95)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    # The smallest p-value of 500 resamples is 2/501; six slices are tested.
    assert difference.p_holm == pytest.approx(6 * 2 / 501)
    assert parts["short histories"].differences[0].mean > 0


def test_without_visits_and_profiles_there_are_no_such_slices(prompts):
    bare = [dataclasses.replace(prompt, days_since_last=None, groups=[]) for prompt in prompts]
    assert set(found(bare, scores("grpo", [1.0] * USERS))) == {
        "short histories",
        "long histories",
        "tail items",
        "new items",
    }
