"""Scores of candidates, beside plain rows in double precision."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from components.shared.language_model import packing, scoring
from components.shared.language_model.load import LanguageModel, encode_prefill, encode_prompt, load
from components.shared.language_model.scoring import (
    HEADER,
    first_number,
    model_scores,
    question,
    ranking,
    score_all,
)


@dataclass
class Row:
    messages: list[dict[str, str]]
    titles: list[str]
    history: list[str]


ROWS = [
    Row([{"role": "user", "content": "1. tea 2. jazz"}], ["tea", "jazz", "a very long title", "tea"], []),
    Row([{"role": "user", "content": "rank these"}], [f"item {n}" for n in range(12)], ["jazz", "tea pot"]),
    Row([{"role": "user", "content": "rank it"}], ["jazz"], [f"old {n}" for n in range(20)]),
]


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return load(tiny_model_folder, "float32")


@pytest.fixture(scope="module")
def exact(tiny_model_folder: Path) -> LanguageModel:
    lm = load(tiny_model_folder, "float32")
    return LanguageModel(lm.model.double(), lm.tokenizer)


def plain(lm: LanguageModel, prompt: list[int], answer: list[int]) -> float:
    """The log-probability of one answer, alone in its row."""
    with torch.inference_mode():
        logits = lm.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("row", ROWS)
def test_numbers_differ_from_whole_rows_by_what_all_share(lm, exact, row: Row) -> None:
    """The beginning `<think></think><answer>` adds the same to every candidate; the rest is the score."""
    (scores,) = score_all(lm, [question(lm.tokenizer, "label_logits", row)])
    prompt = encode_prompt(lm.tokenizer, row.messages)
    answers = [encode_prefill(lm.tokenizer, first_number(n + 1)) for n in range(len(row.titles))]
    shared = [plain(exact, prompt, answer) - score for answer, score in zip(answers, scores, strict=True)]
    assert shared == pytest.approx([shared[0]] * len(answers), abs=1e-5)


@pytest.mark.parametrize("fits", [True, False], ids=["packed", "one row each"])
def test_titles_score_what_the_history_adds(lm, exact, fits: bool, monkeypatch) -> None:
    monkeypatch.setattr(packing, "fits", lambda *_: fits)
    asked = [question(lm.tokenizer, "title_likelihood", row) for row in ROWS]
    found = score_all(lm, asked)

    def encode(text: str) -> list[int]:
        return lm.tokenizer(text, add_special_tokens=False)["input_ids"]

    for row, scores, one in zip(ROWS, found, asked, strict=True):
        prompt = encode(HEADER + "".join(f"{title}\n" for title in row.history[-scoring.LATEST :]))
        answers = [encode(f"{title}\n") for title in row.titles]
        expected = [plain(exact, prompt, a) - plain(exact, encode(HEADER), a) for a in answers]
        assert scores == pytest.approx(expected, abs=1e-5)
        assert model_scores(lm.model, [one])[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert found[0] == pytest.approx([0.0] * 4, abs=1e-5)  # no history: nothing is added


def test_what_titles_are_worth_alone_is_computed_once(lm, monkeypatch) -> None:
    asked, original = [], packing.sequence_log_probs

    def counted(model, rows):
        asked.extend(rows)
        return original(model, rows)

    monkeypatch.setattr(scoring, "sequence_log_probs", counted)
    questions = [question(lm.tokenizer, "title_likelihood", ROWS[1])] * 3
    assert len({tuple(scores) for scores in score_all(lm, questions)}) == 1
    assert len(asked) == 4  # three with the history, one without
    worth: scoring.Worth = {}
    first = score_all(lm, questions[:1], worth=worth)
    del asked[:]
    assert score_all(lm, questions[:1], worth=worth) == first
    assert len(asked) == 1  # with the history


@pytest.mark.parametrize("answers", ["label_logits", "title_likelihood"])
@pytest.mark.parametrize("tokens", [1, 300, 100_000])
def test_batches_change_neither_scores_nor_their_order(answers, tokens: int, exact, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "CPU_TOKENS", tokens)
    asked = [question(exact.tokenizer, answers, row) for row in [*ROWS, *ROWS[::-1]]]
    done: list[int] = []
    found = score_all(exact, asked, done.append)
    for one, scores in zip(asked, found, strict=True):
        expected = [plain(exact, one.prompt, answer) for answer in one.answers]
        if one.alone:
            expected = [
                value - plain(exact, one.alone, answer)
                for value, answer in zip(expected, one.answers, strict=True)
            ]
        assert scores == pytest.approx(expected, abs=1e-9)
    assert done == sorted(done) and done[-1] == len(asked)
    if tokens == 1:
        assert len(done) > len(asked) or answers == "label_logits"
    assert score_all(exact, []) == []


@pytest.mark.parametrize("answers", ["label_logits", "title_likelihood"])
def test_gradients_of_several_questions_are_the_sums_of_each_ones(answers, exact) -> None:
    asked = [question(exact.tokenizer, answers, row) for row in ROWS]
    parameters = list(exact.model.parameters())

    def gradients(batches) -> list[torch.Tensor]:
        scores = [values for batch in batches for values in model_scores(exact.model, batch)]
        return torch.autograd.grad(sum((values**2).sum() for values in scores), parameters)

    for ours, theirs in zip(gradients([asked]), gradients([[one] for one in asked]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)  # RMSNorm computes in float32


def test_gradients_reach_the_weights_through_both_parts(exact) -> None:
    one = question(exact.tokenizer, "title_likelihood", ROWS[1])
    weight = exact.model.get_input_embeddings().weight
    step = torch.zeros_like(weight)
    step[one.answers[0][0]] = 1e-4
    share = torch.linspace(-1, 1, 12, dtype=torch.float64)

    def mixed() -> torch.Tensor:
        return model_scores(exact.model, [one])[0] @ share

    mixed().backward()
    slope, weight.grad = float((weight.grad * step).sum()), None
    with torch.no_grad():
        weight += step
        after = float(mixed())
        weight -= 2 * step
        before = float(mixed())
        weight += step
    exact.model.zero_grad()
    assert slope == pytest.approx((after - before) / 2, rel=2e-2)


def test_the_ranking_is_whole_and_ties_keep_the_candidates_order() -> None:
    assert ranking([-3.0, -1.0, -3.0, -0.5]) == [4, 2, 1, 3]
    assert ranking([]) == []
