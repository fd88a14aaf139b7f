"""Asking a language model, and turning its answers into rankings, shares and readable examples."""

import gc
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.evaluate.config import EvaluateConfig
from components.evaluate.tables import DEPTH, Catalogue
from components.shared.artifacts import fingerprint
from components.shared.prompting import answer
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import AnswerStatistics, Example, ExampleAnswer


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model said: a text a prompt, its length in tokens, whether it ended by itself.

    `reasoning_ignored` is the share of `probes` answers that another user's reasoning left as they were.
    """

    texts: list[str]
    tokens: list[int]
    finished: list[bool]
    seconds: float
    reasoning_ignored: float | None = None
    probes: int = 0


def ask_all(
    config: EvaluateConfig, models: Mapping[str, Path], prompts: Sequence[PromptRow]
) -> dict[str, Answers]:
    """Let every model answer every prompt; models of equal weights are asked once.

    GRPO hands the SFT model on when nothing was better, and a champion may be the model of this very run.
    """
    asked: dict[str, tuple[str, Answers]] = {}
    answers: dict[str, Answers] = {}
    for name, folder in models.items():
        weights = fingerprint.of_folder(folder, "*.safetensors")
        if weights in asked:
            print(
                f"evaluate: {name} has the weights of {asked[weights][0]} and answers as it does", flush=True
            )
        else:
            asked[weights] = (name, ask(config, name, folder, prompts))
        answers[name] = asked[weights][1]
    return answers


def ask(config: EvaluateConfig, name: str, folder: Path, prompts: Sequence[PromptRow]) -> Answers:
    """Load one model, let it answer every prompt, and free it before the next one comes."""
    from components.evaluate.reasoning import ignored_share
    from components.shared.language_model import generate

    lm = generate.load(folder, config.dtype)
    started = time.perf_counter()
    every = max(1, len(prompts) // 5)
    reported = 0

    def progress(done: int) -> None:
        nonlocal reported
        if done - reported >= every or done == len(prompts):
            reported = done
            seconds = time.perf_counter() - started
            print(f"evaluate: {name} answered {done} of {len(prompts)} ({seconds:.0f} s)", flush=True)

    completions = generate.complete(
        lm,
        [prompt.messages for prompt in prompts],
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature if config.decoding == "sampled" else 0.0,
        batch_size=config.batch_size,
        seed=config.seed,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    first = [samples[0] for samples in completions]
    texts = [one.text for one in first]
    ignored, probes = ignored_share(
        lm,
        prompts,
        texts,
        probes=config.reasoning_probes,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    del lm
    gc.collect()
    return Answers(
        texts=texts,
        tokens=[len(one.token_ids) for one in first],
        finished=[one.finished for one in first],
        seconds=seconds,
        reasoning_ignored=ignored,
        probes=probes,
    )


def answer_statistics(answers: Answers, prompts: Sequence[PromptRow]) -> AnswerStatistics:
    """Return shares and costs over all answers; see AnswerStatistics for what each means."""
    parsed = [answer.parse(text) for text in answers.texts]
    users = len(prompts)
    valid = sum(
        one.is_valid(len(prompt.candidates), prompt.answer_length)
        for one, prompt in zip(parsed, prompts, strict=True)
    )
    named = Counter(one.numbers for one in parsed if one.well_formed)
    return AnswerStatistics(
        valid_share=valid / users,
        duplicate_share=sum(len(set(one.numbers)) < len(one.numbers) for one in parsed) / users,
        truncated_share=answers.finished.count(False) / users,
        constant_share=max(named.values(), default=0) / users,
        seconds_per_user=answers.seconds / users,
        tokens_per_user=sum(answers.tokens) / users,
        reasoning_ignored_share=answers.reasoning_ignored,
        reasoning_probes=answers.probes,
    )


def examples(
    config: EvaluateConfig,
    prompts: Sequence[PromptRow],
    answers: Mapping[str, Answers],
    catalogue: Catalogue,
) -> list[Example]:
    """Return a seeded handful of prompts with every model's answer, those with a retrieved label first."""
    order = np.random.default_rng(config.seed).permutation(len(prompts)).tolist()
    order.sort(key=lambda i: not prompts[i].labels)
    return [
        Example(
            user_id=prompts[i].user_id,
            prompt="\n\n".join(message["content"] for message in prompts[i].messages),
            labels=tuple(catalogue.titles.get(item, item) for item in prompts[i].label_items),
            answers=tuple(_example_answer(name, one.texts[i], prompts[i]) for name, one in answers.items()),
        )
        for i in order[: config.examples]
    ]


def _example_answer(name: str, text: str, prompt: PromptRow) -> ExampleAnswer:
    top = answer.final_ranking(text, prompt.candidates)[:DEPTH]
    ranks = [top.index(item) + 1 for item in prompt.label_items if item in top]
    return ExampleAnswer(
        model=name,
        text=text,
        valid=answer.parse(text).is_valid(len(prompt.candidates), prompt.answer_length),
        label_rank=min(ranks, default=None),
    )
