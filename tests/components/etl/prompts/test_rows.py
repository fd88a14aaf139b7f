"""Rendering one case: history strictly before the label, the answer key, and the switches."""

from datetime import UTC, datetime, timedelta
from math import log2

import pytest

from components.etl.config import PromptsConfig
from components.etl.prompts.rows import CatalogueStatistics, history_before, render
from components.shared.prompting import answer

START = datetime(2025, 1, 1, tzinfo=UTC)
STATISTICS = CatalogueStatistics(interactions=26, items=6)


def item(name, topic, count=1, created_at=None):
    return {
        "item_id": name,
        "title": f"Title of {name}",
        "topic": topic,
        "tags": [topic],
        "train_count": count,
        "created_at": created_at,
    }


def event(position, action, hours):
    return {
        "position": position,
        "action": action,
        "timestamp": START + timedelta(hours=hours),
        "dwell_seconds": None,
    }


@pytest.mark.parametrize("named", ["b", "c", "f"])  # of the history, the label, a candidate
def test_an_interest_that_is_an_items_title_is_not_shown(named):
    interests = ["tea", f"Title of {named}", f"all of Title of {named}"]
    row = rendered(a_case(profile={"age": 30, "interests": interests}))
    assert "User profile: age 30; interests tea." in row["messages"][1]["content"]


def a_case(**changes):
    """A user who saw a, b, c, met b again after the label c, and is asked for c (position 2)."""
    case = {
        "user_id": "u",
        "split": "train",
        "position": 2,
        "label_positions": [2],
        "item_ids": ["a", "b", "c", "d", "e"],
        "timestamps": [START + timedelta(hours=h) for h in (0, 1, 50, 60, 70)],
        "engagement": [0.1, 0.2, 3.0, 0.4, 0.5],
        "train_end": 3,
        "valid_end": 4,
        "events": [
            event(0, "view", 0),
            event(1, "view", 1),
            event(0, "save", 2),
            event(2, "view", 50),
            event(1, "share", 51),
            event(3, "view", 60),
            event(4, "view", 70),
        ],
        "candidates": ["e", "c", "f"],
        "profile": {"age": 30, "gender": None},
        "items": {name: item(name, topic) for name, topic in zip("abcdef", "xxyyzz", strict=True)},
    }
    case |= changes
    return {**case, "scores": [-float(rank) for rank, _ in enumerate(case["candidates"])]}


def words(messages):
    return sum(len(message["content"].split()) for message in messages)


def rendered(case=None, **config):
    return render(case or a_case(), PromptsConfig(**config), STATISTICS, words)


def test_history_is_what_happened_before_the_labels_first_event():
    case = a_case()
    assert [e["action"] for e in history_before(2, case["events"])] == ["view", "view", "save"]
    text = rendered()["messages"][1]["content"]
    assert "saved 'Title of a'" in text  # the strongest action so far
    assert "viewed 'Title of b'" in text and "shared" not in text  # that came after the label
    assert "Long-term interests: x (2)" in text
    assert rendered()["history_positions"] == [0, 1]


def test_novelty_counts_the_train_part_without_the_prompts_own_label():
    trained = rendered()
    assert trained["candidates"] == ["e", "c", "f"]  # c is the label: counted once, and that was here
    assert trained["novelty"] == pytest.approx([log2(31 / 2), log2(31 / 1), log2(31 / 2)])
    tested = a_case(split="test", position=4, label_positions=[4], candidates=["e", "f"])
    assert rendered(tested)["novelty"] == [4.0, 4.0]  # (count 1 + 1) / (26 + 6) = 1/16


def test_what_was_seen_and_how_old_each_candidate_is_at_the_labels_time():
    """The label happens 50 hours after START; b was met before it, and again after it."""
    case = a_case(candidates=["b", "c", "d"])
    case["items"]["b"]["created_at"] = START - timedelta(hours=22)
    case["items"]["d"]["created_at"] = START + timedelta(hours=51)
    info = rendered(case)
    assert info["seen"] == [True, False, False]
    assert info["age_days"] == [3.0, None, 0.0]


def test_days_since_the_last_visit_and_groups_of_the_profile():
    """The label happens 50 hours after START, the last event before it, on a, 2 hours after START."""
    info = rendered(a_case(profile={"age": 39, "gender": "female", "city_tier": 1, "interests": ["tea"]}))
    assert info["groups"] == ["gender female", "city tier 1", "age 30 to 39"]
    assert info["days_since_last"] == 2.0
    assert rendered(a_case(profile={}))["groups"] == []
    assert rendered(a_case(position=0, label_positions=[0]))["days_since_last"] is None


def test_answer_key_counts_candidates_from_one():
    row = rendered()
    assert (row["labels"], row["label_weights"]) == ([2], [3.0])
    assert row["label_items"] == ["c"]
    assert row["candidates"] == ["e", "c", "f"]
    said = answer.parse(row["completion"])
    assert said.is_valid(3, 10) and said.numbers == (2, 1, 3)


def test_a_label_that_retrieval_missed_is_never_added():
    row = rendered(a_case(candidates=["e", "f"]))
    assert (row["labels"], row["label_weights"]) == ([], [3.0])
    assert row["label_items"] == ["c"] and row["completion"] is None


def test_a_teachers_order_is_the_answer_with_and_without_a_hit():
    for candidates in (["e", "c", "f"], ["e", "d", "f"]):
        case = a_case(candidates=candidates, teacher=[0.1, -2.0, 3.5])
        row = rendered(case, target="teacher", shuffle_candidates=True, seed=1)
        assert row["candidates"] != candidates
        assert dict(zip(row["candidates"], row["teacher"], strict=True)) == dict(
            zip(candidates, case["teacher"], strict=True)
        )
        said = answer.parse(row["completion"])
        assert [row["candidates"][number - 1] for number in said.numbers] == ["f", "e", candidates[1]]
    assert rendered(a_case(teacher=[1.0, 2.0, 3.0]))["teacher"] is None
    tested = a_case(split="test", teacher=None)
    assert rendered(tested, target="teacher")["teacher"] is None
    with pytest.raises(ValueError, match=r"set retrieve\.blend\.learner to teacher"):
        rendered(a_case(teacher=None), target="teacher")


@pytest.mark.parametrize("split", ["valid", "test"])
def test_only_training_prompts_have_a_completion(split):
    assert rendered(a_case(split=split))["completion"] is None


def test_several_labels_keep_time_order_and_weights():
    case = a_case(split="test", position=3, label_positions=[3, 4], candidates=["e", "f", "d"])
    row = rendered(case)
    assert (row["labels"], row["label_items"]) == ([3, 1], ["d", "e"])
    assert row["label_weights"] == [0.4, 0.5]
    case["engagement"] = [0.0] * 5  # nothing tells the labels apart
    assert rendered(case)["label_weights"] == [1.0, 1.0]


def test_shuffled_candidates_keep_their_labels_and_repeat():
    case = a_case(candidates=[*"cdef"])
    first = rendered(case, shuffle_candidates=True)
    assert first == rendered(case, shuffle_candidates=True)
    orders = {tuple(rendered(case, shuffle_candidates=True, seed=s)["candidates"]) for s in range(20)}
    assert len(orders) > 5
    for seed in range(5):
        row = rendered(case, shuffle_candidates=True, seed=seed)
        number = row["labels"][0]
        assert row["candidates"][number - 1] == "c"
        assert dict(zip(row["candidates"], row["scores"], strict=True)) == {"c": 0, "d": -1, "e": -2, "f": -3}
        assert row["titles"] == [f"Title of {item}" for item in row["candidates"]]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_prompts_that_are_judged_keep_the_order_as_served_ones_do(split):
    case = a_case(split=split, position=3, label_positions=[3], candidates=[*"cdef"])
    for seed in range(10):
        assert rendered(case, shuffle_candidates=True, seed=seed)["candidates"] == [*"cdef"]


def test_a_share_of_the_training_prompts_alone_is_shuffled():
    names = [*"cdef"]
    cases = [a_case(user_id=f"u{n}", candidates=names) for n in range(100)]
    kept = sum(rendered(case, shuffle_train_share=0.3)["candidates"] == names for case in cases)
    assert 55 < kept < 85
    tests = [dict(case, split="test", position=3, label_positions=[3]) for case in cases]
    assert all(rendered(case, shuffle_train_share=1.0)["candidates"] == names for case in tests)


def test_the_oldest_history_is_cut_to_the_budget():
    full = rendered()
    tight = rendered(max_prompt_tokens=words(full["messages"]) - 1)
    assert tight["history_cut"] == 1 and "Title of a" not in tight["messages"][1]["content"]
    assert (full["history"], tight["history"]) == (["Title of a", "Title of b"], ["Title of b"])
    with pytest.raises(ValueError, match="max_prompt_tokens"):
        rendered(max_prompt_tokens=5)


def test_variants_leave_parts_out():
    bare = rendered(with_profile=False, with_interests=False)["messages"][1]["content"]
    assert "age 30" not in bare and "Long-term" not in bare and "Title of a" in bare
    ids = rendered(natural_language=False)["messages"][1]["content"]
    assert "Title" not in ids and "f" in ids.split()


def test_a_limited_history_keeps_the_latest_items():
    text = rendered(max_history=1)["messages"][1]["content"].split("Candidates")[0]
    assert "Title of b" in text and "Title of a" not in text
    assert "Title of" not in rendered(max_history=0)["messages"][1]["content"].split("Candidates")[0]


def test_a_limited_history_in_days_leaves_interests_alone():
    # the label is met at hour 50: a (hour 0) lies 50 hours back, b (hour 1) 49 hours
    case = a_case(timestamps=None)
    case["events"][1]["timestamp"] += timedelta(hours=20)
    case["events"][2]["timestamp"] += timedelta(hours=20)
    text = rendered(case, history_days=2)["messages"][1]["content"].split("Candidates")[0]
    assert "Title of b" in text and "Title of a" not in text and "x (2)" in text


def test_an_item_outside_the_catalogue_is_named():
    with pytest.raises(ValueError, match="item 'ghost' is not in the catalogue"):
        rendered(a_case(candidates=["ghost"]))
