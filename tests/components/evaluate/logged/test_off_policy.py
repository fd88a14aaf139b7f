"""The off-policy estimate on a simulated log, whose truth is known, and from real tables."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.logged.off_policy import SHOWN, Shown, estimates, read_shown
from components.shared.prompting.table import read_prompts
from data_contracts.evaluation import OffPolicy, Sample
from data_contracts.tables import EXPOSURES, SEQUENCES

USERS, ITEMS = 6000, ("a", "b", "c")
RATES = {"a": 0.30, "b": 0.10, "c": 0.02}
EXAMINED = (1.0, 0.5)
"""How often a user looks at each slot."""
LISTS = [list(pair) for pair in itertools.permutations(ITEMS, 2)]
POLICY = np.array([0.1, 0.1, 0.2, 0.2, 0.25, 0.15])
"""Probability of each list: the log favours bad ones."""


def value_of(ranking: list[str]) -> float:
    return float(np.mean([RATES[item] * look for item, look in zip(ranking, EXAMINED, strict=True)]))


SAMPLE = Sample(
    split="test", users=USERS, users_available=USERS, seed=0, candidates=3.0, recall_ceiling=1.0,
    catalogue_items=3, confidence=0.95, bootstrap_samples=500,
)  # fmt: skip
POLICIES = {"best": ["a", "b"], "middle": ["b", "c"], "worst": ["c", "b"]}


PROPENSITY = {
    (item, slot): sum(p for p, shown in zip(POLICY, LISTS, strict=True) if shown[slot] == item)
    for item in ITEMS
    for slot in range(2)
}


def simulated(seed: int, users: int = USERS) -> list[Shown]:
    """What users were shown, and what they engaged with."""
    generator = np.random.default_rng(seed)
    lists = []
    for drawn in generator.choice(len(LISTS), users, p=POLICY):
        shown = LISTS[drawn]
        chances = [RATES[item] * look for item, look in zip(shown, EXAMINED, strict=True)]
        lists.append(
            Shown(
                items=shown,
                propensities=[PROPENSITY[item, slot] for slot, item in enumerate(shown)],
                engagement=[float(generator.random() < chance) for chance in chances],
            )
        )
    return lists


def with_label(lists: list[Shown]) -> list[Shown]:
    return [shown for shown in lists if any(shown.engagement)]


def estimated(lists: list[Shown], rankings: dict, without_label: int = 0) -> dict[str, OffPolicy]:
    repeated = {name: [ranking] * len(lists) for name, ranking in rankings.items()}
    return {found.name: found for found in estimates(repeated, lists, without_label, SAMPLE)}


def test_users_without_a_label_count_without_being_ranked() -> None:
    lists = simulated(1)
    labelled = with_label(lists)
    found = estimated(labelled, POLICIES, without_label=USERS - len(labelled))
    for name, ranking in POLICIES.items():
        assert found[name].low < value_of(ranking) < found[name].high
        assert found[name].engagement == pytest.approx(value_of(ranking), abs=0.02)
        assert found[name].engagement == pytest.approx(estimated(lists, POLICIES)[name].engagement)
    logged = sum(p * value_of(shown) for p, shown in zip(POLICY, LISTS, strict=True))
    assert found[SHOWN].low < logged < found[SHOWN].high
    assert found["best"].low > found[SHOWN].high
    assert (found["best"].users, found["best"].users_without_label) == (USERS, USERS - len(labelled))
    assert found[SHOWN].effective_slots == pytest.approx(2 * len(labelled))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = []
    for seed in range(60):
        labelled = with_label(simulated(seed, 1000))[::2]  # the evaluation asks a sample
        found = estimated(labelled, POLICIES, without_label=500 - len(labelled))
        covered += [
            found[name].low <= value_of(policy) <= found[name].high for name, policy in POLICIES.items()
        ]
    assert 0.88 < np.mean(covered) <= 1


def test_lists_chosen_by_the_engagement_leave_the_ratio_to_the_shown_ones_right() -> None:
    visits = [simulated(seed, 4000) for seed in range(5)]
    lists = [engaged[-1] for user in zip(*visits, strict=True) if (engaged := with_label(list(user)))]
    found = estimated(lists, POLICIES)
    logged = sum(p * value_of(shown) for p, shown in zip(POLICY, LISTS, strict=True))
    for name, ranking in POLICIES.items():
        ratio = found[name].engagement / found[SHOWN].engagement
        assert ratio == pytest.approx(value_of(ranking) / logged, rel=0.1)


def test_a_ranking_that_agrees_with_no_slot_has_no_estimate() -> None:
    found = estimated(simulated(1, 100), {"elsewhere": ["x", "y"], "short": ["a"], "empty": []})
    assert set(found) == {SHOWN, "short"}


def test_without_lists_there_is_nothing() -> None:
    assert estimates({"m": [["a"]] * 3}, [None] * 3, 0, SAMPLE) == []


LABEL = datetime(2026, 3, 1, tzinfo=UTC)


def write(folder: Path, name: str, rows: list[dict], schema: pa.Schema) -> None:
    (folder / name).mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / name / "part.parquet")


def shown(user: str, days: int, items: list[str], propensities: list[float] | None) -> dict:
    time = LABEL + timedelta(days=days)
    return {"user_id": user, "timestamp": time, "item_ids": items, "propensities": propensities}


def sequence(user: str, items: list[str], days: list[float], valid_end: int) -> dict:
    times = [LABEL + timedelta(days=day) for day in days]
    weights = [1.0] * len(items)
    ends = {"train_end": valid_end - 1, "valid_end": valid_end}
    return {
        "user_id": user,
        "item_ids": items,
        "timestamps": times,
        "engagement": weights,
        "events": [],
        **ends,
    }


def test_the_first_list_of_the_test_is_read_and_users_without_a_label_are_counted(
    prompts_folder: Path, tmp_path: Path
) -> None:
    first, second, third, *_ = [
        replace(prompt, position=2, label_items=["x", "y"], label_weights=[2.0, 1.0])
        for prompt in read_prompts(prompts_folder, "test")
    ]
    asked = [first, second, third]
    items, days = ["old", "older", "x", "y"], [-9, -8, 0.5, 2]
    rows = [sequence(prompt.user_id, items, days, 2) for prompt in asked]
    rows += [sequence("not asked", items, [-9, -8, 0, 2], 2)]
    rows += [sequence(f"quiet {n}", items[:2], [-9, -8], 2) for n in range(4)]
    write(tmp_path, "sequences", rows, SEQUENCES)
    lists = [
        shown(first.user_id, -2, ["before the test"], [0.5]),
        shown(first.user_id, 1, ["y", "x"], [0.5, 0.25]),
        shown(first.user_id, 3, ["later"], [0.5]),
        shown(second.user_id, 1, ["x"], None),
        shown("not asked", 1, ["x"], [0.5]),
        *(shown(f"quiet {n}", n - 1, ["x"], [0.5]) for n in range(4)),
    ]
    write(tmp_path, "exposures", lists, EXPOSURES)
    found, without_label = read_shown(str(tmp_path / "exposures"), str(tmp_path / "sequences"), asked)
    # What was engaged with before it was shown is no engagement with the list.
    assert found == [Shown(items=["y", "x"], propensities=[0.5, 0.25], engagement=[1.0, 0.0]), None, None]
    # Quiet 0 was shown a list before the test only; one of two users with a list and a label is asked.
    assert without_label == 2


def test_where_everybody_has_a_label_the_latest_list_before_it_is_read(
    prompts_folder: Path, tmp_path: Path
) -> None:
    prompts = read_prompts(prompts_folder, "test")[:2]
    asked = [replace(prompt, position=1, label_items=["x"], label_weights=[2.0]) for prompt in prompts]
    rows = [
        sequence(asked[0].user_id, ["old", "x"], [-9, 0], 1),
        sequence(asked[1].user_id, ["old", "x"], [8, 9], 1),
    ]
    write(tmp_path, "sequences", rows, SEQUENCES)
    user = asked[0].user_id
    lists = [
        shown(user, -2, ["older"], [0.5]),
        shown(user, 0, ["x", "y"], [0.5, 0.25]),
        shown(user, 1, ["late"], [0.5]),
    ]
    write(tmp_path, "exposures", lists, EXPOSURES)
    found = read_shown(str(tmp_path / "exposures"), str(tmp_path / "sequences"), asked)
    assert found == ([Shown(items=["x", "y"], propensities=[0.5, 0.25], engagement=[2.0, 0.0]), None], 0)
