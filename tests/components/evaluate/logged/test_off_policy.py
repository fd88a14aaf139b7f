"""The off-policy estimate on a simulated log, whose truth is known, and from real tables."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.logged.off_policy import SHOWN, Shown, estimates, read_shown
from components.shared.prompting.table import PromptRow, read_prompts
from data_contracts.evaluation import OffPolicy, Sample
from data_contracts.tables import EXPOSURES

USERS, ITEMS = 6000, ("a", "b", "c")
RATES = {"a": 0.30, "b": 0.10, "c": 0.02}
EXAMINED = (1.0, 0.5)
"""How often a user looks at each slot."""
LISTS = [list(pair) for pair in itertools.permutations(ITEMS, 2)]
POLICY = np.array([0.1, 0.1, 0.2, 0.2, 0.25, 0.15])
"""Probability of each list: the log favours bad ones."""


def value_of(ranking: list[str]) -> float:
    return float(np.mean([RATES[item] * look for item, look in zip(ranking, EXAMINED, strict=True)]))


def sample(users: int) -> Sample:
    return Sample(
        split="test", users=users, users_available=users, seed=0, candidates=3.0, recall_ceiling=1.0,
        catalogue_items=3, confidence=0.95, bootstrap_samples=500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def simulated(prompts_folder: Path) -> tuple[list[PromptRow], list[Shown | None]]:
    generator = np.random.default_rng(1)
    propensity = {
        (item, slot): sum(p for p, shown in zip(POLICY, LISTS, strict=True) if shown[slot] == item)
        for item in ITEMS
        for slot in range(2)
    }
    template = read_prompts(prompts_folder, "test")[0].__dict__
    prompts, lists = [], []
    for user, drawn in enumerate(generator.choice(len(LISTS), USERS, p=POLICY)):
        shown = LISTS[drawn]
        engaged = [
            item
            for item, look in zip(shown, EXAMINED, strict=True)
            if generator.random() < RATES[item] * look
        ]
        prompts.append(
            PromptRow(
                **template
                | {"user_id": f"u{user}", "label_items": engaged, "label_weights": [1.0] * len(engaged)}
            )
        )
        lists.append(Shown(items=shown, propensities=[propensity[item, k] for k, item in enumerate(shown)]))
    return prompts, lists


def estimated(simulated, rankings: dict[str, list[str]]) -> dict[str, OffPolicy]:
    prompts, lists = simulated
    repeated = {name: [ranking] * len(prompts) for name, ranking in rankings.items()}
    return {found.name: found for found in estimates(repeated, prompts, lists, sample(len(prompts)))}


def test_the_interval_holds_the_truth_and_the_shown_lists_are_far_from_it(simulated) -> None:
    policies = {"best": ["a", "b"], "middle": ["b", "c"], "worst": ["c", "b"]}
    found = estimated(simulated, policies)
    for name, ranking in policies.items():
        assert found[name].low < value_of(ranking) < found[name].high
        assert found[name].engagement == pytest.approx(value_of(ranking), abs=0.02)
    logged = sum(p * value_of(shown) for p, shown in zip(POLICY, LISTS, strict=True))
    assert found[SHOWN].low < logged < found[SHOWN].high
    assert found["best"].low > found[SHOWN].high
    assert found[SHOWN].effective_slots == pytest.approx(2 * USERS)
    assert found["best"].matching_users < found["best"].effective_slots < USERS


def test_users_who_engaged_with_nothing_are_missed_but_the_order_holds(simulated) -> None:
    """The sample of an evaluation has only users with a label, here from the list that they were shown."""
    engaged = [(prompt, shown) for prompt, shown in zip(*simulated, strict=True) if prompt.label_items]
    policies = {"best": ["a", "b"], "middle": ["b", "c"], "worst": ["c", "b"]}
    found = estimated([list(part) for part in zip(*engaged, strict=True)], policies)
    for name, ranking in policies.items():
        assert found[name].low > 3 * value_of(ranking)
    assert found["best"].low > found[SHOWN].high > found["middle"].high > found["worst"].engagement


def test_a_ranking_that_agrees_with_no_slot_has_no_estimate(simulated) -> None:
    assert set(estimated(simulated, {"elsewhere": ["x", "y"], "short": ["a"], "empty": []})) == {
        SHOWN,
        "short",
    }


def test_without_lists_there_is_nothing(simulated) -> None:
    prompts, _ = simulated
    assert estimates({"m": [["a"]] * len(prompts)}, prompts, [None] * len(prompts), sample(1)) == []


def test_the_latest_list_before_the_label_is_read(prompts_folder: Path, tmp_path: Path) -> None:
    first, second, *_ = prompts = read_prompts(prompts_folder, "test")
    label = datetime(2026, 3, 1, tzinfo=UTC)
    times = [label - timedelta(days=prompts[0].position - n) for n in range(prompts[0].position + 1)]
    for name in ("exposures", "sequences"):
        (tmp_path / name).mkdir()
    rows = [{"user_id": prompt.user_id, "timestamps": times} for prompt in prompts]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sequences" / "part.parquet")

    def shown(user: str, days: int, items: list[str], propensities: list[float] | None) -> dict:
        time = label + timedelta(days=days)
        return {"user_id": user, "timestamp": time, "item_ids": items, "propensities": propensities}

    lists = [
        shown(first.user_id, -2, ["old"], [0.5]),
        shown(first.user_id, 0, ["x", "y"], [0.5, 0.25]),
        shown(first.user_id, 1, ["late"], [0.5]),
        shown(second.user_id, 0, ["x"], None),
        shown("somebody else", 0, ["x"], [1.0]),
    ]
    pq.write_table(pa.Table.from_pylist(lists, schema=EXPOSURES), tmp_path / "exposures" / "part.parquet")
    found = read_shown(str(tmp_path / "exposures"), str(tmp_path / "sequences"), prompts)
    assert found[0] == Shown(items=["x", "y"], propensities=[0.5, 0.25])
    assert found[1:] == [None] * (len(prompts) - 1)
