"""One packed row gives the log-probabilities and gradients of separate rows."""

from pathlib import Path

import pytest
import torch

from components.shared.language_model import packing
from components.shared.language_model.load import load
from components.shared.language_model.packing import (
    answer_mask,
    pack,
    packed_inputs,
    sequence_log_probs,
    token_log_probs,
)

PROMPT = [11, 12, 13, 14, 15]
ANSWERS = [[21, 22, 23], [31], [21, 42, 43, 44, 45, 46]]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path):
    return load(tiny_model_folder, "float32").model


def plain(model, answer: list[int], temperature: float, prompt: list[int] = PROMPT) -> torch.Tensor:
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_those_of_plain_rows(model, temperature: float) -> None:
    packed, _ = token_log_probs(model, PROMPT, ANSWERS, temperature)
    for row, answer in zip(packed, ANSWERS, strict=True):
        torch.testing.assert_close(row[: len(answer)], plain(model, answer, temperature), atol=1e-5, rtol=0)
        assert not row[len(answer) :].any()


def test_gradients_equal_those_of_plain_rows(model) -> None:
    weights = torch.tensor([0.3, -1.0, 2.0])
    packed, _ = token_log_probs(model, PROMPT, ANSWERS)
    (packed.sum(1) * weights).sum().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sum(w * plain(model, a, 1.0).sum() for w, a in zip(weights, ANSWERS, strict=True)).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4)
    model.zero_grad()


def test_entropy_is_that_of_the_predicting_distribution(model) -> None:
    _, entropy = token_log_probs(model, PROMPT, [[21, 22]])
    with torch.inference_mode():
        expected = torch.distributions.Categorical(
            logits=model(torch.tensor([[*PROMPT, 21]])).logits[0, -2:]
        ).entropy()
    torch.testing.assert_close(entropy[0], expected, atol=1e-5, rtol=0)


def test_the_row_and_its_mask_by_hand() -> None:
    row = pack([1, 2], [[5, 6, 0], [3, 0], [5, 6, 4, 7], [9], [5, 8, 0], [3, 0]])
    assert row.tokens == [1, 2, 3, 5, 6, 4, 8]
    assert row.predictors == [[1, 3, 4], [1, 2], [1, 3, 4, 5], [1], [1, 3, 6], [1, 2]]
    inputs = packed_inputs([row], torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [row.tokens]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 2, 3, 4, 3]]
    assert inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [1, 1, 0, 1, 1, 1, 0],
        [1, 1, 0, 1, 0, 0, 1],
    ]
    assert answer_mask([1, 2], torch.device("cpu")).tolist() == [[1, 0], [1, 1]]


def test_a_shorter_row_is_padded_on_the_left_by_tokens_that_see_themselves_alone() -> None:
    rows = [pack([1, 2], [[3, 5], [4, 5]]), pack([6], [[7, 5]])]
    inputs = packed_inputs(rows, torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4], [0, 0, 6, 7]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 2], [0, 0, 0, 1]]
    assert inputs["attention_mask"].shape == (2, 1, 4, 4)
    assert inputs["attention_mask"][1, 0].int().tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
    ]


ROWS = [
    (PROMPT, ANSWERS),
    ([7], [[8, 9]]),
    (list(range(60, 90)), [[7, 8, 9], [5], [5, 6], [7, 8, 9, 10], [7, 9, 8], [5], [7, 8, 9, 11, 12]]),
]


@pytest.mark.parametrize("fits", [True, False], ids=["one pass", "a pass per prompt"])
def test_prompts_of_one_pass_give_what_each_gives_in_plain_rows(fits: bool, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(packing, "fits", lambda *_: fits)
    model = load(tiny_model_folder, "float32").model.double()
    weights = [torch.linspace(-1, 2, len(answers), dtype=torch.float64) for _, answers in ROWS]
    found = sequence_log_probs(model, ROWS)
    sum(values @ weight for values, weight in zip(found, weights, strict=True)).backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for (prompt, answers), values, weight in zip(ROWS, found, weights, strict=True):
        expected = torch.stack([plain(model, answer, 1.0, prompt).sum() for answer in answers])
        torch.testing.assert_close(values, expected, atol=1e-9, rtol=0)
        (expected @ weight).backward()
    for name, parameter in model.named_parameters():  # RMSNorm computes in float32
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-6, rtol=0)


def test_log_probabilities_of_bfloat16_logits_are_computed_in_float32(tiny_model_folder) -> None:
    model = load(tiny_model_folder, "float32").model
    exact = torch.cat(sequence_log_probs(model, ROWS))
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.cat(sequence_log_probs(model, ROWS))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.01)
    (gradient,) = torch.autograd.grad(found.sum(), model.get_input_embeddings().weight)
    assert gradient.isfinite().all()
