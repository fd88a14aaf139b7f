"""vLLM on a CPU gives the answers of transformers, in one process and in two."""

import importlib.util
from pathlib import Path

import pytest
import torch

from components.shared.errors import ConfigError
from components.shared.language_model import vllm_engine
from components.shared.language_model.generate import Completion, complete
from components.shared.language_model.grammar import Shape
from components.shared.language_model.load import LanguageModel, encode_prompt, load
from components.shared.prompting import answer

CHATS = [
    [{"role": "user", "content": f"I like {word} " * n}] for n, word in enumerate(["tea", "jazz"] * 3, 1)
]
SHAPES = [Shape(20, 10), Shape(6, 3), Shape(1, 1), Shape(9, 9), Shape(30, 5), Shape(2, 4)]
TIE = 1.0e-3
"""Logits that are closer may change places between two ways to compute them in float32."""


def test_where_vllm_is_not_installed(tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(ConfigError, match="vllm is not installed here; run the step in the trainer image"),
        vllm_engine.opened(tiny_model_folder, "float32", 0),
    ):
        pass


@pytest.mark.verl
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_answers_equal_those_of_transformers(
    processes: int, model_for_vllm: Path, vllm_on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_engine, "_gpus", lambda: [""] * processes)
    lm = load(model_for_vllm, "float32", "cpu")
    prefills = [f"<think>{n}</think><answer>" for n in range(len(CHATS))]
    settings = [
        {"max_new_tokens": 24},
        {"max_new_tokens": 70, "shapes": SHAPES},
        {"max_new_tokens": 70, "shapes": SHAPES, "prefills": prefills},
    ]
    with vllm_engine.opened(model_for_vllm, "float32", 0) as model:
        found = [model.complete(CHATS, **options) for options in settings]
    for options, theirs in zip(settings, found, strict=True):
        for chat, (ours,), (given,) in zip(CHATS, complete(lm, CHATS, **options), theirs, strict=True):
            assert given == ours or ("shapes" not in options and tied(lm, chat, ours, given))
    for shape, (given,) in zip(SHAPES * 2, [*found[1], *found[2]], strict=True):
        assert answer.parse(given.text).is_valid(shape.candidates, shape.length)


def tied(lm: LanguageModel, chat: list[dict[str, str]], ours: Completion, theirs: Completion) -> bool:
    """Return whether the first tokens in which two free answers differ are a tie for the model."""
    pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
    first = next(place for place, (one, other) in enumerate(pairs) if one != other)
    ids = torch.tensor([encode_prompt(lm.tokenizer, chat) + ours.token_ids[:first]])
    with torch.inference_mode():
        logits = lm.model(ids).logits[0, -1]
    return bool((logits[ours.token_ids[first]] - logits[theirs.token_ids[first]]).abs() < TIE)
