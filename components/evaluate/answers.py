"""Answers of language models to the prompts, their statistics, whether their reasoning matters, examples."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate.config import EvaluateConfig
from components.evaluate.tables import DEPTH, Catalogue
from components.shared.artifacts import fingerprint
from components.shared.language_model import generate, vllm_engine
from components.shared.language_model.generate import Completion
from components.shared.language_model.grammar import Shape
from components.shared.language_model.load import check_folder, load, release_memory
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import answer_of, question, ranking, score_all
from components.shared.logs import logger, progress
from components.shared.prompting import answer
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import (
    BASE_MODEL,
    SCORED_MODEL,
    TRAINED_MODEL,
    UNFUSED_MODEL,
    AnswerStatistics,
    Example,
    ExampleAnswer,
)

log = logger("evaluate")

Ask = Callable[..., list[Completion]]
"""Takes prompts and options of `generate.complete`, returns an answer to each."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One model's answers and rankings (candidates, best first), one per prompt; the time for all."""

    completions: list[Completion]
    rankings: list[list[str]]
    seconds: float
    probes: int = 0
    reasoning_ignored: float | None = None
    """Share of the `probes` answers that another user's reasoning did not change."""
    scores: list[list[float]] = field(default_factory=list)
    """A scoring model's own scores of each prompt's candidates."""


def answer_all(
    config: EvaluateConfig, models: Mapping[str, Path], prompts: Sequence[PromptRow]
) -> dict[str, Answers]:
    """Return every model's answers; models with equal files answer once.

    The trained model stands there twice: before its answers as it ranks without reasoning, or, if it
    scores candidates, without the retriever's scores; the base model then ranks by the same kind of scores.
    """
    # GRPO outputs the SFT model if no step was better, and the champion may be the model of this very run.
    contents = {name: fingerprint.of_folder(folder) for name, folder in models.items()}
    answers: dict[str, Answers] = {}
    for name in models:
        if contents[name] not in answers:
            answers[contents[name]] = _answer(config, name, models, prompts)
    found: dict[str, Answers] = {}
    for name, folder in models.items():
        answered = answers[contents[name]]
        if name == TRAINED_MODEL and answered.scores:
            found[UNFUSED_MODEL] = dataclasses.replace(answered, **_ranked(answered.scores, prompts))
        elif name == TRAINED_MODEL and config.scored:
            found[SCORED_MODEL] = _score(config, SCORED_MODEL, folder, prompts, Ranker("label_logits"))
        found[name] = answered
    return found


def _answer(
    config: EvaluateConfig, name: str, models: Mapping[str, Path], prompts: Sequence[PromptRow]
) -> Answers:
    """Return the model's answers as it was trained to give them.

    The base model answers as the trained one does.
    """
    folder = models[name]
    check_folder(folder)
    ranker = Ranker.read(folder)
    if name == BASE_MODEL and TRAINED_MODEL in models:
        ranker = Ranker(Ranker.read(models[TRAINED_MODEL]).answers)
    if ranker.answers == "generate":
        return _generate(config, name, folder, prompts)
    return _score(config, name, folder, prompts, ranker)


def _generate(config: EvaluateConfig, name: str, folder: Path, prompts: Sequence[PromptRow]) -> Answers:
    release_memory()  # of the model before
    with _engine(config, folder) as ask:
        started = time.perf_counter()
        first = ask(
            prompts,
            temperature=config.temperature,
            progress=lambda answered: progress(log, answered, len(prompts), name),
        )
        seconds = time.perf_counter() - started
        ignored, probes = ignored_share(config, ask, prompts, [completion.text for completion in first])
    rankings = [
        answer.final_ranking(completion.text, prompt.candidates)
        for completion, prompt in zip(first, prompts, strict=True)
    ]
    return Answers(
        completions=first, rankings=rankings, seconds=seconds, probes=probes, reasoning_ignored=ignored
    )


@contextmanager
def _engine(config: EvaluateConfig, folder: Path) -> Iterator[Ask]:
    """Yield what asks the model in `folder`, by the engine of `config`."""
    if config.engine == "vllm":
        with vllm_engine.opened(folder, config.dtype, config.seed) as model:
            yield partial(_ask, config, model.complete)
    else:
        lm = load(folder, config.dtype)
        yield partial(
            _ask,
            config,
            partial(generate.complete, lm, batch_size=config.batch_size, seed=config.seed),
        )


def _ask(
    config: EvaluateConfig,
    complete: Callable[..., list[list[Completion]]],
    prompts: Sequence[PromptRow],
    **options: Any,
) -> list[Completion]:
    """Return an answer to each of `prompts`."""
    if config.constrained:
        options["shapes"] = [Shape(len(prompt.candidates), prompt.answer_length) for prompt in prompts]
    messages = [prompt.messages for prompt in prompts]
    completions = complete(messages, max_new_tokens=config.max_new_tokens, **options)
    return [samples[0] for samples in completions]


def _score(
    config: EvaluateConfig, name: str, folder: Path, prompts: Sequence[PromptRow], ranker: Ranker
) -> Answers:
    """Return the rankings by scores, and the answers that say their beginnings."""
    release_memory()
    lm = load(folder, config.dtype)
    questions = [question(lm.tokenizer, ranker.answers, prompt) for prompt in prompts]
    started = time.perf_counter()
    scores = score_all(lm, questions, lambda scored: progress(log, scored, len(prompts), name))
    seconds = time.perf_counter() - started
    fused = ranker.all_logits(scores, [prompt.scores for prompt in prompts])
    return Answers(**_ranked(fused, prompts), seconds=seconds, scores=scores)


def _ranked(logits: Sequence[Sequence[float]], prompts: Sequence[PromptRow]) -> dict[str, Any]:
    """Return the fields of Answers that follow from the candidates' logits."""
    orders = [ranking(values) for values in logits]
    texts = [answer_of(order[: prompt.answer_length]) for order, prompt in zip(orders, prompts, strict=True)]
    return {
        "completions": [Completion(text, [], finished=True) for text in texts],
        "rankings": [
            [prompt.candidates[number - 1] for number in order]
            for order, prompt in zip(orders, prompts, strict=True)
        ],
    }


def ignored_share(
    config: EvaluateConfig, ask: Ask, prompts: Sequence[PromptRow], texts: Sequence[str]
) -> tuple[float | None, int]:
    """Return the share of answers that another user's reasoning leaves unchanged, and the probes.

    A seeded sample of well-formed answers is generated again greedily, each after the reasoning of the next
    answer in the sample. Pairs with the same reasoning are left out; without any pair the share is None.
    """
    parsed = [answer.parse(text) for text in texts]
    usable = [i for i, given in enumerate(parsed) if given.well_formed]
    order = np.random.default_rng(config.seed).permutation(usable)
    chosen = order[: config.reasoning_probes].astype(int).tolist()
    swapped = zip(chosen, chosen[1:] + chosen[:1], strict=True)
    pairs = [(i, j) for i, j in swapped if parsed[i].reasoning != parsed[j].reasoning]
    if not pairs:
        return None, 0
    completions = ask(
        [prompts[i] for i, _ in pairs],
        prefills=[f"<think>{parsed[j].reasoning}</think><answer>" for _, j in pairs],
    )
    probed = [answer.parse(completion.text).numbers for completion in completions]
    unchanged = sum(numbers == parsed[i].numbers for numbers, (i, _) in zip(probed, pairs, strict=True))
    return unchanged / len(pairs), len(pairs)


def answer_statistics(answers: Answers, prompts: Sequence[PromptRow]) -> AnswerStatistics:
    """Return shares and costs over all answers."""
    completions, users = answers.completions, len(prompts)
    parsed = [answer.parse(completion.text) for completion in completions]
    valid = [
        given.is_valid(len(prompt.candidates), prompt.answer_length)
        for given, prompt in zip(parsed, prompts, strict=True)
    ]
    by_itself = [
        is_valid and not completion.corrected for is_valid, completion in zip(valid, completions, strict=True)
    ]
    # The list as it stands is no constant answer: each user has another list.
    numbers = [given.numbers for given in parsed if given.well_formed]
    own = [said for said in numbers if said != tuple(range(1, len(said) + 1))]
    frequencies = Counter(own)
    return AnswerStatistics(
        valid_share=sum(by_itself) / users,
        corrected_share=sum(completion.corrected for completion in completions) / users,
        duplicate_share=sum(len(set(given.numbers)) < len(given.numbers) for given in parsed) / users,
        truncated_share=sum(not completion.finished for completion in completions) / users,
        constant_share=max(frequencies.values(), default=0) / users,
        seconds_per_user=answers.seconds / users,
        tokens_per_user=sum(len(completion.token_ids) for completion in completions) / users,
        copied_share=(len(numbers) - len(own)) / users,
        reasoning_ignored_share=answers.reasoning_ignored,
        reasoning_probes=answers.probes,
    )


def examples(
    config: EvaluateConfig, prompts: Sequence[PromptRow], answers: Mapping[str, Answers], catalogue: Catalogue
) -> list[Example]:
    """Return seeded examples with every model's answer, those with a retrieved label first."""
    order = np.random.default_rng(config.seed).permutation(len(prompts)).tolist()
    order.sort(key=lambda i: not prompts[i].labels)
    return [
        Example(
            user_id=prompts[i].user_id,
            prompt="\n\n".join(message["content"] for message in prompts[i].messages),
            labels=tuple(catalogue.titles.get(item, item) for item in prompts[i].label_items),
            answers=tuple(
                _example_answer(name, given.completions[i].text, given.rankings[i], prompts[i])
                for name, given in answers.items()
            ),
        )
        for i in order[: config.examples]
    ]


def _example_answer(model: str, text: str, ranked: Sequence[str], prompt: PromptRow) -> ExampleAnswer:
    top = ranked[:DEPTH]
    ranks = [top.index(item) + 1 for item in prompt.label_items if item in top]
    return ExampleAnswer(
        model=model,
        text=text,
        valid=answer.parse(text).is_valid(len(prompt.candidates), prompt.answer_length),
        label_rank=min(ranks, default=None),
    )
