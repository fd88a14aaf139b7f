"""One packed row gives the log-probabilities and gradients of separate rows."""

from pathlib import Path

import pytest
import torch

from components.shared.language_model.load import load
from components.shared.language_model.packing import answer_mask, packed_inputs, predecessors, token_log_probs

PROMPT = [11, 12, 13, 14, 15]
ANSWERS = [[21, 22, 23], [31], [21, 42, 43, 44, 45, 46]]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path):
    return load(tiny_model_folder, "float32").model


def plain(model, answer: list[int], temperature: float) -> torch.Tensor:
    logits = model(torch.tensor([PROMPT + answer])).logits[0, len(PROMPT) - 1 : -1] / temperature
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
    inputs = packed_inputs([1, 2], [[3], [4, 5]])
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 2, 3]]
    assert inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    assert predecessors(2, [1, 2]).tolist() == [1, 1, 3]
    assert answer_mask([1, 2], torch.device("cpu")).tolist() == [[1, 0], [1, 1]]
