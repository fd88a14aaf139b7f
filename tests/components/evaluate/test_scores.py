"""Final rankings, metrics and answer statistics, with the arithmetic written out."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate.answers import Answers, answer_statistics
from components.evaluate.scores import recall_ceiling, score
from components.evaluate.tables import catalogue_of, read_catalogue, read_rankings, sample_prompts
from components.shared.language_model.generate import Completion
from components.shared.metrics import self_information
from components.shared.prompting.answer import final_ranking
from components.shared.prompting.table import PromptRow


def row(candidates: str, labels: str, answer_length: int = 2, position: int = 5) -> PromptRow:
    return PromptRow(
        user_id="u",
        split="test",
        position=position,
        messages=[],
        labels=[],
        candidates=list(candidates),
        scores=[],
        titles=[],
        history=[],
        tags=[],
        novelty=[],
        seen=[],
        age_days=[],
        days_since_last=None,
        groups=[],
        label_items=list(labels),
        label_weights=[1.0 for _ in labels],
        answer_length=answer_length,
        completion=None,
    )


CATALOGUE = catalogue_of(dict.fromkeys("abcd", "title"), [{"x"}, {"x", "y"}, {"z"}, set()], [7, 3, 1, 0])


@pytest.mark.parametrize(
    ("text", "ranking"),
    [
        pytest.param("<think>t</think><answer>3, 1</answer>", "cab", id="named first, the rest in order"),
        pytest.param("<think></think><answer>2, 2, 9</answer>", "bac", id="repeats and strangers skipped"),
        pytest.param("I would pick 3.", "abc", id="unusable: prompt order"),
        pytest.param("", "abc", id="nothing said"),
        pytest.param("<think></think><answer>0</answer>", "abc", id="numbers start at 1"),
    ],
)
def test_final_ranking(text: str, ranking: str) -> None:
    assert final_ranking(text, "abc") == list(ranking)


def test_metrics_of_one_user_by_hand() -> None:
    scores = score("m", "llm", [["b", "a", "c"]], [row("abc", "a")], CATALOGUE)
    values = {name: value[0] for name, value in scores.values.items()}
    assert values["recall@5"] == values["recall@10"] == 1.0
    assert values["ndcg@10"] == pytest.approx(1 / math.log2(3))  # rank 2, one label: ideal DCG is 1
    # Jaccard distances: b-a 1/2, b-c 1, a-c 1.
    assert values["ilad"] == pytest.approx(2.5 / 3)
    bits = [self_information(count, 11, 4) for count in (3, 7, 1)]
    assert values["novelty"] == pytest.approx(sum(bits) / 3)
    assert values["popularity"] == pytest.approx((3 + 7 + 1) / 3)
    assert values["mrr@10"] == values["map@10"] == pytest.approx(1 / 2)
    assert scores.overall == {
        "coverage": 3 / 4,
        "gini": pytest.approx(1 / 4),
    }  # one is never shown


def test_graded_ndcg_by_hand() -> None:
    prompt = dataclasses.replace(row("abc", "ac"), label_weights=[1.0, 3.0])
    scores = score("m", "llm", [["a", "b", "c"]], [prompt], CATALOGUE)
    found, ideal = 1 + 3 / math.log2(4), 3 + 1 / math.log2(3)  # a at rank 1, c at rank 3; best: c, a
    assert scores.values["graded_ndcg@10"].tolist() == [pytest.approx(found / ideal)]


@settings(max_examples=200)
@given(
    st.permutations("abcdefghijkl"), st.sets(st.sampled_from("abcdefghijkl"), min_size=1), st.floats(0.01, 99)
)
def test_graded_ndcg_is_ndcg_where_all_labels_weigh_the_same(
    ranking: list[str], labels: set[str], weight: float
) -> None:
    prompt = row("abc", "".join(sorted(labels)))
    prompt = dataclasses.replace(prompt, label_weights=[weight] * len(labels))
    values = score("m", "llm", [ranking], [prompt], CATALOGUE).values
    assert values["graded_ndcg@10"] == pytest.approx(values["ndcg@10"], rel=1e-12)


def test_a_label_outside_the_ranking_is_a_miss() -> None:
    scores = score("m", "llm", [["b", "c"]], [row("bc", "a")], CATALOGUE)
    assert scores.values["recall@10"].tolist() == scores.values["ndcg@10"].tolist() == [0.0]


def test_an_item_that_the_catalogue_lacks_has_no_tags_and_the_highest_novelty() -> None:
    scores = score("m", "conventional", [["a", "?"]], [row("a", "a")], CATALOGUE)
    bits = [self_information(count, 11, 4) for count in (7, 0)]
    assert scores.values["novelty"].tolist() == [pytest.approx(sum(bits) / 2)]
    assert scores.values["popularity"].tolist() == [7 / 2]
    assert scores.overall["coverage"] == 1 / 4
    assert scores.values["ilad"].tolist() == [1.0]


def test_answer_statistics_by_hand() -> None:
    texts = [
        "<think>a</think><answer>2, 1</answer>",  # valid
        "<think>b</think><answer>2, 1</answer>",  # valid, the same numbers
        "<think>c</think><answer>2, 2</answer>",  # a repeat
        "no idea",  # no shape, cut off
    ]
    completions = [
        Completion(text, [0] * length, finished=length < 40)
        for text, length in zip(texts, (10, 20, 30, 40), strict=True)
    ]
    answers = Answers(completions=completions, rankings=[], seconds=2.0)
    found = answer_statistics(answers, [row("abc", "a")] * 4)
    assert found.valid_share == 2 / 4
    assert found.duplicate_share == 1 / 4
    assert found.truncated_share == 1 / 4
    assert found.constant_share == 2 / 4
    assert found.copied_share == 0.0  # "1, 2" would be the list as it stands
    assert found.seconds_per_user == 0.5
    assert found.tokens_per_user == 25.0


def test_recall_ceiling_counts_retrieved_labels() -> None:
    # One of one label, one of two, none of one.
    assert recall_ceiling([row("ab", "a"), row("ab", "bc"), row("ab", "d")]) == pytest.approx(1.5 / 3)


def test_novelty_is_counted_on_train_positions(world) -> None:
    catalogue = read_catalogue(world.catalogue)
    total = sum(range(1, 41))  # train_count of item i is 40 - i
    assert catalogue.novelty[[0, -1]].tolist() == [self_information(count, total, 40) for count in (40, 0)]
    assert catalogue.head == {f"i{i:02d}" for i in range(8)}


def test_rankings_come_in_the_order_of_the_prompts(world) -> None:
    prompts, available = sample_prompts(world.prompts, 5, seed=1)
    rankings = read_rankings(world.rankings, prompts)
    assert (len(prompts), available) == (5, 24)
    assert list(rankings) == ["popularity", "sasrec"]
    # In this world SASRec found the candidates, so its ten first are theirs.
    assert rankings["sasrec"] == [prompt.candidates[:10] for prompt in prompts]


def test_the_sample_depends_on_the_seed_alone(world) -> None:
    def users(seed: int) -> list[str]:
        return [prompt.user_id for prompt in sample_prompts(Path(world.prompts), 8, seed)[0]]

    assert users(1) == users(1) == sorted(users(1))
    assert users(1) != users(2)
