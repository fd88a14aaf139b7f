"""Whether a model can be trained here, tried before anything is: three prompts, each way of reading them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from components.shared import causes
from components.shared.errors import ModelError
from components.shared.language_model.checks import is_out_of_memory
from components.shared.language_model.generate import sample
from components.shared.language_model.load import LanguageModel, encode_completion, encode_prompt
from components.shared.language_model.packing import packed_logits, plain_logits

TOLERANCE = 1e-3
"""Largest difference of a token's log-probability, in nats and float32, that passes for rounding.

SmolLM2-135M differs by 5e-5; wrong masks, even of small random weights, by more than 1e-2."""

_PROMPTS = ("Rank: [1] tea [2] jazz", "Rank what comes next. " * 4, "Candidates: chess, hiking, tea. " * 8)
_ANSWERS = ("<think>tea again</think><answer>1, 2</answer>", "<answer>2</answer>", "2, 1, " * 5)

Logits = Callable[[Any, Sequence[int], Sequence[Sequence[int]]], torch.Tensor]


@torch.no_grad()
def check(lm: LanguageModel) -> float | None:
    """Return None if packed rows are right, else by how much log-probabilities differ.

    The difference is infinite where the architecture refuses such rows.

    Raises: ModelError if the model cannot be trained on batches, or sampled from, in float32.
    """
    refused = f"{type(lm.model).__name__} cannot be trained here"
    prompts = [encode_prompt(lm.tokenizer, [{"role": "user", "content": text}]) for text in _PROMPTS]
    answers = [encode_completion(lm.tokenizer, text) for text in _ANSWERS]
    singles = _tried(f"{refused}: reading", lambda: [_single(lm, prompt, answers) for prompt in prompts])
    if not all(bool(single.isfinite().all()) for single in singles):
        raise ModelError(f"{refused}: its log-probabilities are no numbers; are its weights broken?")
    start = answers[0][:2]
    alone = _single(lm, prompts[0], [start])
    if not bool(((alone - singles[0][: len(start)]).abs() <= TOLERANCE).all()):
        raise ModelError(f"{refused}: a token's log-probability depends on later ones; use a causal model")

    def difference(logits: Logits) -> float:
        pairs = zip(prompts, singles, strict=True)
        return max(
            float((logits(lm.model, prompt, answers).log_softmax(-1) - single).abs().max())
            for prompt, single in pairs
        )

    wrong = _tried(f"{refused}: reading batches", lambda: difference(plain_logits))
    if not wrong <= TOLERANCE:
        raise ModelError(
            f"{refused}: in a batch its log-probabilities differ by {wrong:.2g} from those of single rows "
            f"(more than {TOLERANCE:g}); use another architecture"
        )
    _tried(f"{refused}: sampling", lambda: _check_sampling(lm, prompts))
    try:
        wrong = difference(packed_logits)
    except Exception as error:  # architectures refuse masks of four dimensions each in its own way
        if is_out_of_memory(error):
            raise
        return float("inf")
    return None if wrong <= TOLERANCE else wrong


def _single(lm: LanguageModel, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    rows = []
    for answer in answers:
        ids = torch.tensor([[*prompt, *answer]], device=lm.device)
        rows.append(lm.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1))
    return torch.cat(rows)


def _check_sampling(lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
    generator = torch.Generator(device=lm.device)
    sampled = sample(lm, prompts, num_samples=2, max_new_tokens=4, temperature=0.0, generator=generator)
    for prompt, samples in zip(prompts, sampled, strict=True):
        for answer in {tuple(one): one for one in samples}.values():
            log_probs = _single(lm, prompt, [answer])
            chosen = log_probs.gather(1, torch.tensor(answer, device=lm.device)[:, None]).squeeze(1)
            # Not the tokens themselves: two may be equally likely.
            if not bool((log_probs.amax(-1) - chosen <= 2 * TOLERANCE).all()):
                raise ModelError("with a cache the model's greedy answers are not its most likely ones")


def _tried(what: str, attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except Exception as error:  # an architecture's own code can raise anything
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{what} fails ({causes.of_exception(error)}); use an architecture of attention layers alone"
        ) from error
