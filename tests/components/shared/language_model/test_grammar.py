"""Constrained answers: always valid, unchanged where the model keeps the format by itself."""

import random
from pathlib import Path

import pytest
import torch

from components.shared.language_model.generate import complete
from components.shared.language_model.grammar import ConstrainedAnswer, Grammar, Shape, restrict
from components.shared.language_model.load import LanguageModel, encode_completion, load
from components.shared.prompting import answer

CHATS = [[{"role": "user", "content": "word " * n}] for n in (1, 7, 3, 12)]
SHAPES = [Shape(20, 10), Shape(3, 10), Shape(1, 1), Shape(120, 5)]


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return load(tiny_model_folder, "float32")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_has_learnt_nothing_gives_valid_answers(lm, temperature: float) -> None:
    found = complete(
        lm,
        CHATS,
        max_new_tokens=64,
        num_samples=2,
        temperature=temperature,
        batch_size=3,
        shapes=SHAPES,
    )
    for shape, samples in zip(SHAPES, found, strict=True):
        for given in samples:
            assert answer.parse(given.text).is_valid(shape.candidates, shape.length), given.text
            assert given.token_ids[-1] in lm.stop_ids
            assert given.corrected
            assert not given.finished  # its thought had to be closed


def test_an_answer_begun_by_a_prefill_has_numbers_alone(lm) -> None:
    prefills = [f"<think>{n}</think><answer>" for n in range(4)]
    found = complete(lm, CHATS, max_new_tokens=60, prefills=prefills, shapes=SHAPES)
    for shape, prefill, (given,) in zip(SHAPES, prefills, found, strict=True):
        assert given.text.startswith(prefill)
        assert answer.parse(given.text).is_valid(shape.candidates, shape.length)
        assert given.finished


def follow(grammar: Grammar, ids: list[int], shape: Shape, max_new_tokens: int = 200) -> ConstrainedAnswer:
    """Return the state after a model has preferred `ids`, which must all be allowed."""
    state = ConstrainedAnswer(grammar, shape, max_new_tokens)
    for token in ids:
        logits = torch.zeros(1, len(grammar.tokenizer))
        logits[0, token] = 1.0
        restrict(logits, {0: state})
        assert logits[0].argmax() == token, f"{grammar.tokenizer.decode([token])!r} is refused"
        state.take(token)
    return state


@pytest.mark.parametrize(
    "text",
    [
        "<think>The user likes 3 <b>teas</b>, and </thing> too.</think><answer>17, 1, 20, 2, 10</answer>",
        "<think></think><answer>1, 11, 12, 2, 20</answer>",
        "<think>茶 <</think>\n<answer>5, 4, 3, 2, 1</answer>",
    ],
)
def test_a_valid_answer_is_left_as_it_is(lm, text: str) -> None:
    state = follow(lm.grammar, encode_completion(lm.tokenizer, text), Shape(20, 5))
    assert not state.was_corrected
    assert not state.was_closed


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("<think>a</think><answer>3, 17, ", "3"),
        ("<think>a</think><answer>3, 2", "1"),  # 21 of 20
        ("<think>a</think><answer>3, ", "0"),
        ("<think>a</think><answer>3", "</"),
        ("<think>a</think><answer>3, 2, 1", ","),
        ("<think>a <answer", ">"),
        ("<think>a </think", ">."),
        ("Tea", " is"),
    ],
)
def test_what_would_make_an_answer_invalid_is_refused(lm, text: str, refused: str) -> None:
    state = ConstrainedAnswer(lm.grammar, Shape(20, 3), 200)
    for token in lm.tokenizer(text, add_special_tokens=False)["input_ids"]:
        state.take(token)
    logits = torch.zeros(1, len(lm.tokenizer))
    token = lm.tokenizer(refused, add_special_tokens=False)["input_ids"][0]
    logits[0, token] = 1.0
    restrict(logits, {0: state})
    assert logits[0, token] == -torch.inf


def test_any_walk_through_the_choices_ends_in_a_valid_answer(lm) -> None:
    generator = random.Random(0)
    for _ in range(200):
        shape = Shape(generator.randint(1, 30), generator.randint(1, 12))
        state, ids = ConstrainedAnswer(lm.grammar, shape, 90), []
        while not ids or ids[-1] not in lm.stop_ids:
            tokens, allowed = state.choices()
            ids.append(
                generator.choice(sorted(tokens))
                if allowed
                else generator.choice(lm.grammar.encode("</think>."))
            )
            if not allowed and ids[-1] in tokens:
                ids[-1] = lm.grammar.encode("tea")[0]
            state.take(ids[-1])
        text = lm.tokenizer.decode(ids, skip_special_tokens=True)
        assert answer.parse(text).is_valid(shape.candidates, shape.length), text
        assert len(ids) <= 90
