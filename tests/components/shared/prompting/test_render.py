"""The words of the prompt, the answer that SFT teaches, and the token budget."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from components.shared.artifacts import fingerprint
from components.shared.prompting.answer import parse
from components.shared.prompting.render import (
    PROMPT_VERSION,
    STRENGTH,
    Candidate,
    Interaction,
    PromptInput,
    activity_lines,
    completion,
    fit,
    item_facts,
    messages,
    recent,
    recurring_words,
    relative_time,
    shorten,
    shown_title,
)
from components.shared.prompting.settings import ItemFact, PromptSettings
from data_contracts.tables import ACTIONS

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def interaction(title: str, topic: str, days: float, *actions: str) -> Interaction:
    return Interaction(
        title=title, topic=topic, actions=actions or ("view",), timestamp=NOW - timedelta(days=days)
    )


PROMPT = PromptInput(
    profile={"age": 25, "city_tier": "1", "gender": None, "interests": ["tea", "chess"]},
    history=[
        interaction("Old", "tea", 9),
        interaction("A", "chess", 2, "like"),
        interaction("B", "chess", 2),
        interaction("C", "tea", 0.1, "save"),
    ],
    interests=[("chess", 7), ("tea", 3)],
    candidates=[
        Candidate(title=t, topic=c) for t, c in (("P", "go"), ("Q", "chess"), ("R", "tea"), ("S", "go"))
    ],
    now=NOW,
    answer_length=3,
)


def test_every_line_of_a_prompt() -> None:
    assert messages(PROMPT)[-1]["content"].splitlines() == [
        "User profile: age 25; city tier 1; interests tea, chess.",
        "Long-term interests: chess (7), tea (3).",
        "Recent activity, oldest first:",
        "- 1 week ago, tea: viewed 'Old'",
        "- 2 days ago, chess: liked 'A', viewed 'B'",
        "- today, tea: saved 'C'",
        "Candidates:",
        "- go: P [1]",
        "- chess: Q [2]",
        "- tea: R [3]",
        "- go: S [4]",
        "Which 3 come next?",
    ]


def test_the_version_belongs_to_the_text() -> None:
    said = [message["content"] for message in messages(PROMPT)] + [completion(PROMPT, [3])]
    text = fingerprint.of_text(*said)
    assert (PROMPT_VERSION, text) == ("4", "4266e63004001db3"), (
        "the text changed: bump PROMPT_VERSION and this line"
    )


def test_a_title_is_quoted_as_it_is() -> None:
    prompt = dataclasses.replace(PROMPT, history=[interaction('Say "it\'s" \u200d', "tea", 1)])
    assert "viewed 'Say \"it's\" \u200d'" in messages(prompt)[-1]["content"]


def test_actions_rise_in_the_order_of_the_events_table() -> None:
    assert tuple(STRENGTH) == ACTIONS


def test_the_short_term_history_is_bounded_by_days_and_by_number() -> None:
    def titles(**settings: int) -> list[str]:
        return [one.title for one in recent(PROMPT.history, NOW, PromptSettings(**settings))]

    assert titles() == ["Old", "A", "B", "C"]
    assert titles(history_days=3) == ["A", "B", "C"]
    assert titles(history_days=3, max_history=1) == ["C"]
    assert titles(max_history=0) == []


def test_variants_leave_their_part_out() -> None:
    without = messages(PROMPT, PromptSettings(with_profile=False, with_interests=False))[-1]["content"]
    assert "User profile" not in without
    assert "Long-term" not in without
    ids = messages(PROMPT, PromptSettings(natural_language=False))[-1]["content"]
    assert "Old A B C" in ids
    assert "- P [1]" in ids


def test_activity_is_counted_by_topic_and_action_in_each_window() -> None:
    history = [
        interaction("A", "tea", 30, "view", "save"),
        interaction("B", "chess", 6, "view", "view"),
        interaction("C", "tea", 2, "view", "like"),
        interaction("D", "tea", 1),
    ]
    settings = PromptSettings(activity_days=(2, 7, 90), interests=2)
    assert activity_lines(history, NOW, settings) == [
        "Past 2 days: tea (viewed 2, liked 1).",
        "Past 7 days: tea (viewed 2, liked 1), chess (viewed 2).",
        "Past 90 days: tea (viewed 3, liked 1, saved 1), chess (viewed 2).",
    ]
    assert activity_lines([], NOW, settings) == activity_lines(history, NOW, PromptSettings()) == []
    prompt = dataclasses.replace(PROMPT, activity=["Past 7 days: tea (viewed 2)."])
    assert "\nPast 7 days: tea (viewed 2).\nRecent activity" in messages(prompt)[-1]["content"]


def test_an_action_that_was_repeated_says_how_often() -> None:
    history = [interaction("A", "tea", 0, "view", "save", "save"), interaction("B", "tea", 0, *["view"] * 3)]
    said = messages(dataclasses.replace(PROMPT, history=history))[-1]["content"]
    assert "- today, tea: saved 'A' twice, viewed 'B' 3 times\n" in said


def test_facts_of_an_item_come_as_asked_for_and_only_where_known() -> None:
    item = {"title": "A red teapot", "topic": "tea", "tags": ["tea", "pots"], "brand": "Kiln"}
    known = item | {"users": 0, "last": 3, "together": 12, "description": f"Fired by hand. {'Round ' * 30}"}
    known |= {"actions": {"share": 3, "like": 12, "save": 0}}
    every = PromptSettings(item_facts=get_args(ItemFact))
    said = ("pots", f"Fired by hand. {'Round ' * 16}Round…", "0 users in 90 days")
    said += ("liked 12, shared 3 in 90 days", "last met 3 days ago", "12 times with the latest item")
    assert item_facts(known, every) == said
    assert item_facts(item, every) == said[:1] and item_facts({"title": "A"}, every) == ()
    assert item_facts(known, PromptSettings(item_facts=("together", "tags"))) == (said[5], said[0])
    assert item_facts(item | {"actions": {}}, every) == said[:1]
    assert shown_title(item, every) == "A red teapot by Kiln"
    assert shown_title(item, PromptSettings()) == "A red teapot"
    assert shown_title(item | {"title": "KILN pot"}, every) == "KILN pot"
    prompt = dataclasses.replace(PROMPT, candidates=[Candidate(title="P", topic="go", facts=["a", "b"])])
    assert "- go: P [1]; a; b\n" in messages(prompt)[-1]["content"]


def test_an_empty_history_is_said() -> None:
    assert "- none" in messages(dataclasses.replace(PROMPT, history=[]))[-1]["content"]


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        pytest.param([4], (3, 4, 1), id="the label leads the others that match nothing"),
        pytest.param([3], (3, 1, 2), id="a label that leads anyway"),
        pytest.param([], (3, 1, 2), id="no label"),
    ],
)
def test_completion_ranks_by_cues_and_labels_lead_their_equals(
    labels: list[int], numbers: tuple[int, ...]
) -> None:
    answer = parse(completion(PROMPT, labels, "cues"))
    assert answer.numbers == numbers
    assert answer.is_valid(4, 3)


def test_labels_lead_and_the_others_keep_their_order() -> None:
    assert parse(completion(PROMPT, [4])).numbers == (4, 1, 2)
    assert parse(completion(PROMPT, [3, 2])).numbers == (3, 2, 1)
    assert parse(completion(PROMPT, [3, 2])).is_valid(4, 3)


@pytest.mark.parametrize(
    ("title", "topic", "reasons"),
    [
        pytest.param("Green Pots", "tea", "Recent interest: tea. Recurring words: Green, Pots. ", id="both"),
        pytest.param("Red pots", "go", "Recurring words: pots. ", id="words in their own spelling"),
        pytest.param("Tea Cups", "tea", "Recent interest: tea. ", id="the topic's word counts once"),
        pytest.param("Cups", "go", "", id="nothing"),
    ],
)
def test_the_rationale_of_a_label_says_what_the_prompt_shows_of_it(title, topic, reasons) -> None:
    history = [interaction("Green POTS for Tea", "tea", 2), interaction("Openings", "chess", 1)]
    candidates = [PROMPT.candidates[0], Candidate(title=title, topic=topic)]
    prompt = dataclasses.replace(PROMPT, history=history, candidates=candidates)
    assert parse(completion(prompt, [2])).reasoning == f"{reasons}Best matches: {title} [2]."
    assert parse(completion(prompt, [2], rationale=False)).reasoning == ""


def test_a_candidate_with_two_cues_comes_before_those_with_one() -> None:
    history = [interaction(title, "tea", 1) for title in ("Green Pots", "Red pots", "Tea")]
    candidates = [Candidate(title=t, topic=c) for t, c in (("Cups", "tea"), ("Pots", "tea"), ("POTS", "go"))]
    prompt = dataclasses.replace(PROMPT, history=history, candidates=candidates)
    assert recurring_words(history) == ["pots"]
    assert parse(completion(prompt, [], "cues")).numbers == (2, 1, 3)
    assert parse(completion(prompt, [], "cues")).reasoning.endswith(
        "Recurring words: pots. Best matches: Pots [2]."
    )
    assert parse(completion(prompt, [3], "cues")).numbers == (2, 3, 1), "the label leads its equals, no more"


def test_recurring_words_leave_out_topics_short_words_and_single_mentions() -> None:
    history = [interaction(t, "chess", 1) for t in ("Chess for kids", "Chess for all", "Openings")]
    assert recurring_words(history) == []


def test_of_words_in_as_many_titles_the_latest_recurs() -> None:
    titles = ("Gothic arches", "Gothic doors", "Budget travel", "BUDGET meals")
    assert recurring_words([interaction(title, "go", 1) for title in titles]) == ["BUDGET"]


def test_the_rationale_does_not_depend_on_the_label() -> None:
    reasons = {parse(completion(PROMPT, [label], "cues")).reasoning for label in (1, 2, 3, 4)}
    assert reasons == {"Recent interest: tea. Best matches: R [3]."}
    assert parse(completion(PROMPT, [1], rationale=False)).reasoning == ""


def words(chat: list[dict[str, str]]) -> int:
    return sum(len(message["content"].split()) for message in chat)


def test_fit_cuts_the_oldest_history_and_no_more_than_needed() -> None:
    whole = words(messages(PROMPT))
    fitted, cut = fit(PROMPT, words, PromptSettings(max_prompt_tokens=whole - 1))
    assert (cut, [one.title for one in fitted.history]) == (1, ["A", "B", "C"])
    assert fit(PROMPT, words, PromptSettings(max_prompt_tokens=whole)) == (PROMPT, 0)


def test_fit_says_what_to_do_when_nothing_is_left_to_cut() -> None:
    with pytest.raises(ValueError, match="max_prompt_tokens=5; raise it"):
        fit(PROMPT, words, PromptSettings(max_prompt_tokens=5))


@pytest.mark.parametrize(
    ("days", "text"),
    [(0, "today"), (1.5, "1 day ago"), (8, "1 week ago"), (65, "2 months ago"), (800, "2 years ago")],
)
def test_relative_time(days: float, text: str) -> None:
    assert relative_time(NOW - timedelta(days=days), NOW) == text


def test_shorten_cuts_at_a_word() -> None:
    assert shorten("a quick brown fox", 12) == "a quick…"
    assert shorten("short", 12) == "short"
    assert shorten("x" * 20, 12) == "x" * 11 + "…"
