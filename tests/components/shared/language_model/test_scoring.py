"""The likelihood of each candidate's number, beside plain rows."""

from pathlib import Path

import pytest
import torch

from components.shared.language_model.load import encode_prefill, encode_prompt, load
from components.shared.language_model.scoring import first_number, ranking, score_candidates

PROMPTS = [[{"role": "user", "content": text}] for text in ("1. tea 2. jazz", "rank these, please, in order")]


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path):
    return load(tiny_model_folder, "float32")


@pytest.mark.parametrize("count", [1, 2, 12])
def test_scores_differ_from_whole_rows_by_what_all_share(lm, count: int) -> None:
    """The beginning `<think></think><answer>` adds the same to every candidate; the rest is the score."""
    found = score_candidates(lm, PROMPTS, [count] * len(PROMPTS))
    for prompt, scores in zip(PROMPTS, found, strict=True):
        assert len(scores) == count
        whole = [_plain(lm, encode_prompt(lm.tokenizer, prompt), number) for number in range(1, count + 1)]
        shared = {round(total - score, 3) for total, score in zip(whole, scores, strict=True)}
        assert max(shared) - min(shared) < 2e-3


def _plain(lm, prompt: list[int], number: int) -> float:
    answer = encode_prefill(lm.tokenizer, first_number(number))
    with torch.inference_mode():
        logits = lm.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


def test_the_ranking_is_whole_and_ties_keep_the_candidates_order() -> None:
    assert ranking([-3.0, -1.0, -3.0, -0.5]) == [4, 2, 1, 3]
    assert ranking([]) == []
