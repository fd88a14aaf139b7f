"""What a request becomes: the same prompt as in training, and a ranking of all candidates."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from components.etl.config import PromptsConfig
from components.etl.prompts import rows as etl_prompts
from components.register.packaging import EXAMPLE
from components.serve import model
from components.shared.errors import DataError
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from components.shared.prompting import render as prompt
from components.shared.prompting.request import read_request
from components.shared.prompting.settings import PromptSettings

SETTINGS = PromptSettings(max_history=2, title_chars=12, interests=1, answer_length=2)
CANDIDATES = [
    {"item_id": "i1", "title": "One", "topic": "jazz"},
    {"item_id": "i2", "title": "Two", "topic": None},
    {"item_id": "i3", "title": "Three"},
]


def prompt_input(row: dict, settings: PromptSettings) -> prompt.PromptInput:
    return model.prompt_input(read_request(row, "row 0"), settings)


def ranked_row(row: dict, text: str, answer_length: int) -> dict:
    return model.ranking(read_request(row, "row 0"), text, answer_length)


def seen(title: str, topic: str, day: int, *actions: str) -> dict:
    return {"title": title, "topic": topic, "actions": list(actions), "timestamp": f"2026-01-0{day}"}


def test_history_is_cut_shortened_and_counted_like_in_training() -> None:
    row = {
        "history": [
            seen("A", "chess", 1, "view"),
            seen("B", "jazz", 2, "save", "view"),
            seen("A very long title", "chess", 3, "follow"),
        ],
        "candidates": CANDIDATES,
        "profile": {"age": "31"},
        "now": "2026-01-05T00:00:00+00:00",
    }
    made = prompt_input(row, SETTINGS)
    # The last two, cut at a word.
    assert [interaction.title for interaction in made.history] == ["B", "A very…"]
    assert made.history[0].action == "save"  # the strongest
    assert made.interests == [("chess", 2)]  # counted over all of the history, the most frequent one
    assert made.candidates[1] == prompt.Candidate(title="Two", topic="")
    assert made.now == datetime(2026, 1, 5, tzinfo=UTC)
    assert made.profile == {"age": "31"}
    turned = {"city_tier": "1", "interests": "jazz", "age": "31"}
    assert list(prompt_input({**row, "profile": turned}, SETTINGS).profile) == [
        "age",
        "city_tier",
        "interests",
    ]


def test_what_is_left_out_has_defaults() -> None:
    made = prompt_input({"candidates": CANDIDATES, "history": None, "profile": float("nan")}, SETTINGS)
    assert (made.history, made.profile, made.interests) == ([], {}, [])
    assert abs((datetime.now(UTC) - made.now).total_seconds()) < 60


def test_arrays_of_numpy_are_lists_too() -> None:
    row = {"candidates": np.array(CANDIDATES, dtype=object), "history": np.array([], dtype=object)}
    assert len(prompt_input(row, SETTINGS).candidates) == 3


def test_a_candidate_that_is_sent_twice_is_one() -> None:
    twice = [*CANDIDATES[:2], {**CANDIDATES[0], "title": "One again"}, CANDIDATES[2], CANDIDATES[1]]
    row = {"candidates": np.array(twice, dtype=object)}
    assert [candidate.title for candidate in prompt_input(row, SETTINGS).candidates] == [
        "One",
        "Two",
        "Three",
    ]
    assert ranked_row(row, "<think>x</think><answer>3, 1</answer>", 2)["item_ids"] == ["i3", "i1", "i2"]
    assert prompt_input({"candidates": twice[:1] * 5}, SETTINGS).answer_length == 1
    padded = [{**CANDIDATES[1], "item_id": f"\t{CANDIDATES[1]['item_id']}  "}, *CANDIDATES]
    assert ranked_row({"candidates": padded}, "none", 2)["item_ids"] == ["i2", "i1", "i3"]


def test_given_interests_are_taken() -> None:
    row = {"candidates": CANDIDATES, "interests": [{"topic": "tea", "count": 7.0}]}
    assert prompt_input(row, SETTINGS).interests == [("tea", 7)]


def test_of_many_interests_the_most_frequent_are_shown_as_in_training() -> None:
    many = [{"topic": f"topic {n}", "count": 1 + n % 7} for n in range(50)]
    row = {"candidates": CANDIDATES, "interests": many}
    assert prompt_input(row, dataclasses.replace(SETTINGS, interests=2)).interests == [
        ("topic 13", 7),
        ("topic 20", 7),
    ]


def test_raw_events_are_a_history_too() -> None:
    """One entry per event, in any order: what a service has at hand."""
    events = [("i2", 3, "like"), ("i1", 1, "view"), ("i2", 2, "view"), ("i1", 4, "share")]
    history = [{**seen("", "", day, action), "item_id": item} for item, day, action in events]
    made = read_request({"history": history, "now": "2026-01-09"}, "row 0").history
    assert [(entry.item_id, entry.actions, entry.timestamp.day) for entry in made] == [
        ("i1", ["view", "share"], 1),
        ("i2", ["view", "like"], 2),
    ]


def test_titles_are_cleaned_as_in_the_catalogue() -> None:
    title = "Salt &amp; Pepper\n- Fake [2]\u200b"
    made = prompt_input({"candidates": [{"item_id": "i1", "title": title}]}, PromptSettings())
    assert [candidate.title for candidate in made.candidates] == ["Salt & Pepper - Fake [2]"]


def test_an_item_met_a_hundred_thousand_times_is_rendered_at_once() -> None:
    history = [{**seen("A", "x", 1, *["like"] * 100_000)}]
    made = prompt_input({"candidates": CANDIDATES, "history": history}, SETTINGS)
    assert "liked 'A' 100000 times" in prompt.messages(made)[-1]["content"]


def test_ids_stand_for_titles_where_the_model_was_trained_so() -> None:
    settings = dataclasses.replace(SETTINGS, natural_language=False)
    history = [{**seen("A", "chess", 1, "view"), "item_id": "i9"}]
    made = prompt_input({"candidates": CANDIDATES, "history": history}, settings)
    assert [interaction.title for interaction in made.history] == ["i9"]
    assert [candidate.title for candidate in made.candidates] == ["i1", "i2", "i3"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            {"history": [{"actions": ["view"], "timestamp": "2026-01-01"}]},
            r"row 0\.history\[0\]: needs an item_id or a title",
            id="an item without a name",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "now": "soon"}, r"row 0\.now: .*soon", id="a time that is none"
        ),
        pytest.param(
            {"candidates": CANDIDATES, "history": [seen("A", "x", 1)]},
            r"row 0\.history\[0\]\.actions: needs at least 1",
            id="no action",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "now": 1770010112300},
            r"row 0\.now: .*1770010112300",
            id="milliseconds",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "profile": {"phone": "5"}},
            r"profile: unknown field 'phone'",
            id="profile",
        ),
        pytest.param({"candidates": ["i1"]}, r"candidates\[0\]: expected a mapping", id="ids alone"),
        pytest.param(
            {"candidates": [*CANDIDATES, {"item_id": "i4", "title": "\u200b \n"}]},
            r"candidates\[3\]\.title: must not be empty",
            id="nothing to see",
        ),
        pytest.param(
            {"candidates": [{"item_id": " ", "title": "T"}]},
            r"candidates\[0\]\.item_id: must not be empty",
            id="no id",
        ),
        pytest.param(
            {"candidates": [{**CANDIDATES[0], "last": -1}]},
            r"candidates\[0\]\.last: must be at least 0",
            id="met tomorrow",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "interests": [{"topic": "tea", "count": 0}]},
            r"interests\[0\]\.count: must be above 0",
            id="a topic never met",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "profile": {"city": "x" * 10_001}},
            r"profile\.city: a text of 10,001 characters",
            id="a book for a city",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "history": [seen("A", "x", 1, "view", "teleport")]},
            r"history\[0\]\.actions\[1\]: 'teleport' is not one of 'view'",
            id="an action of another log",
        ),
        pytest.param(
            {"candidates": CANDIDATES, "history": [seen("A", "x", 5, "view")], "now": "2026-01-03"},
            r"row 0: history goes on to 2026-01-05.* after now",
            id="a history of the future",
        ),
        pytest.param(
            {"candidates": [{"item_id": 7, "title": "T"}]},
            r"candidates\[0\]\.item_id: expected text",
            id="number as an id",
        ),
        pytest.param({"history": [[3]] * 50}, r"history\[19\]: .*\nrow 0: and 30 more", id="every entry"),
        pytest.param({"history": json.loads("[" * 700 + "]" * 700)}, "hundreds deep", id="lists in lists"),
    ],
)
def test_a_bad_row_is_refused(row: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prompt_input(row, SETTINGS)


@pytest.mark.parametrize(
    ("text", "ids", "rationale", "valid"),
    [
        pytest.param(
            "<think>likes three</think><answer>3, 1</answer>", "312", "likes three", True, id="valid"
        ),
        pytest.param("<think>x</think><answer>2</answer>", "213", "", False, id="too short: order is used"),
        pytest.param("hello", "123", "", False, id="no answer"),
    ],
)
def test_an_answer_becomes_a_ranking_of_all_candidates(text, ids, rationale, valid) -> None:
    assert ranked_row({"candidates": CANDIDATES}, text, 2) == {
        "item_ids": [f"i{n}" for n in ids],
        "scores": [],
        "rationale": rationale,
        "valid": valid,
    }


def test_the_example_request_is_rendered() -> None:
    made = prompt_input(EXAMPLE.to_dict(orient="records")[0], dataclasses.replace(SETTINGS, title_chars=60))
    text = prompt.messages(made)[-1]["content"]
    assert "2 days ago" in text
    assert "A Weekend in Chongqing" in text


def logged_case(start: datetime) -> dict:
    """Two topics, repeated actions, a long title, and the label's own event at the end."""
    items = {
        f"i{n}": {
            "item_id": f"i{n}",
            "title": f"Item number {n}" + " with a long tail of words" * (n == 2),
            "topic": ("jazz", "tea", "jazz", "", "tea")[n],
            "tags": ["jazz", "vinyl"],
            "brand": "Blue" if n else None,
            "description": f"Of {n} sides." if n else None,
            "train_count": n,
            "created_at": None,
        }
        for n in range(5)
    }
    events = [(0, "click"), (1, "view"), (0, "view"), (2, "save"), (3, "like"), (1, "share"), (4, "view")]
    return {
        "user_id": "u",
        "split": "test",
        "position": 4,
        "label_positions": [4],
        "item_ids": list(items),
        "engagement": [1.0] * 5,
        "events": [
            {"position": position, "action": action, "timestamp": start + timedelta(days=day)}
            for day, (position, action) in enumerate(events)
        ],
        "candidates": ["i4", "i2", "i3"],
        "scores": [3.0, 2.0, 1.0],
        "profile": {"age": 31, "interests": ["jazz"]},
        "items": items,
    }


def request_of(case: dict) -> dict:
    """What an online service sends for the same user at the moment of the label."""
    history: dict[str, dict] = {}
    for event in case["events"][:-1]:
        item = case["item_ids"][event["position"]]
        seen = {"item_id": item, "timestamp": event["timestamp"].isoformat(), "actions": []}
        known = case["items"][item]
        history.setdefault(item, seen | {key: known[key] for key in ("title", "topic", "brand")})
        history[item]["actions"].append(event["action"])
    return {
        "history": list(history.values()),
        "candidates": [
            {
                key: case["items"][i][key]
                for key in ("item_id", "title", "topic", "brand", "tags", "description")
            }
            for i in case["candidates"]
        ],
        "profile": {"age": "31", "interests": "jazz"},
        "now": case["events"][-1]["timestamp"].isoformat(),
    }


@pytest.mark.parametrize("natural_language", [True, False])
@pytest.mark.parametrize("max_history", [1, 12])
def test_a_request_is_asked_in_the_words_of_training(natural_language: bool, max_history: int) -> None:
    shared = {"max_history": max_history, "title_chars": 20, "natural_language": natural_language}
    shared |= {"activity_days": (2, 30), "item_facts": ("brand", "tags", "description")}
    case = logged_case(datetime(2026, 1, 1, 8, tzinfo=UTC))
    trained = etl_prompts.render(
        case, PromptsConfig(**shared), etl_prompts.CatalogueStatistics(interactions=10, items=5), lambda _: 0
    )
    settings = PromptSettings(**shared)
    served = prompt.messages(prompt_input(request_of(case), settings), settings)
    assert served == trained["messages"]


@pytest.mark.parametrize("answers", ["label_logits", "title_likelihood"])
def test_a_scoring_model_weighs_the_retrievers_scores(answers: str, tiny_model_folder: Path) -> None:
    ranking = model.RankingModel()
    ranking.lm, ranking.settings = load(tiny_model_folder, "float32"), SETTINGS
    ranking.tokenizer, ranking.worth = ranking.lm.tokenizer, {}
    ranking.ranker = Ranker(answers, scale=0.0, fuse=2.0)
    scores = {"i1": 0.5, "i2": 0.25, "i3": 0.75}
    candidates = [{**item, "score": scores[item["item_id"]]} for item in CANDIDATES]
    requests = [
        read_request({"candidates": given, "history": []}, "row") for given in (candidates, CANDIDATES)
    ]
    asked = [ranking._asked(0, request) for request in requests]
    (row,) = ranking._scored({0: requests[0]}, asked[:1])
    assert (row["item_ids"], row["scores"]) == (["i3", "i1", "i2"], [1.5, 1.0, 0.5])
    with pytest.raises(DataError, match=r"row 0: candidates\[0\]\.score is missing"):
        ranking._scored({0: requests[1]}, asked[1:])
    ranking.ranker = Ranker(answers)
    assert sorted(ranking._scored({0: requests[1]}, asked[1:])[0]["item_ids"]) == ["i1", "i2", "i3"]
