"""Every model asked for its answers, by generation or by scores, and whether its reasoning matters."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluate.answers import Answers
from components.evaluate.config import EvaluateConfig
from components.shared.artifacts import fingerprint
from components.shared.language_model import generate, vllm_engine
from components.shared.language_model.generate import Completion
from components.shared.language_model.grammar import Shape
from components.shared.language_model.load import check_folder, load, release_memory
from components.shared.language_model.ranker import Ranker
from components.shared.language_model.scoring import answer_of, question, ranking, score_each
from components.shared.language_model.trunk import Trunk, equal_layers
from components.shared.logs import logger, progress
from components.shared.prompting import answer
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import BASE_MODEL, DATA_SUMMARY, SCORED_MODEL, TRAINED_MODEL, UNFUSED_MODEL

log = logger("evaluate")

Ask = Callable[..., list[Completion]]
"""Takes prompts and options of `generate.complete`, returns an answer to each."""


def answer_all(
    config: EvaluateConfig, models: Mapping[str, Path], prompts: Sequence[PromptRow]
) -> dict[str, Answers]:
    """Return every model's answers; models with equal files answer once.

    The trained model stands there twice: before its answers as it ranks without reasoning, or, if it
    scores candidates, without the retriever's scores; the base model then ranks by the same kind of scores.
    """
    # GRPO outputs the SFT model if no step gained, and the champion may be the model of this very run.
    contents = {name: _contents(folder) for name, folder in models.items()}
    first = {contents[name]: name for name in reversed(list(models))}
    asked = [name for name in models if first[contents[name]] == name]
    answers = _answers(config, {name: models[name] for name in asked}, _rankers(models), prompts)
    found: dict[str, Answers] = {}
    for name, folder in models.items():
        answered = answers[first[contents[name]]]
        if name == TRAINED_MODEL and answered.scores:
            found[UNFUSED_MODEL] = dataclasses.replace(answered, **_ranked(answered.scores, prompts))
        elif name == TRAINED_MODEL and config.scored:
            ranker = {SCORED_MODEL: Ranker("label_logits")}
            found |= _score(config, {SCORED_MODEL: folder}, 0, ranker, prompts)
        found[name] = answered
    return found


def _contents(folder: Path) -> str:
    """Return what names the model's files, among which the champion's data are none."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != DATA_SUMMARY)
    return fingerprint.of_files(files, folder)


def _rankers(models: Mapping[str, Path]) -> dict[str, Ranker]:
    """Return how each model ranks; the base model answers as the trained one does."""
    for folder in models.values():
        check_folder(folder)
    rankers = {name: Ranker.read(folder) for name, folder in models.items()}
    if {BASE_MODEL, TRAINED_MODEL} <= set(models):
        rankers[BASE_MODEL] = Ranker(rankers[TRAINED_MODEL].answers)
    return rankers


def _answers(
    config: EvaluateConfig,
    models: Mapping[str, Path],
    rankers: Mapping[str, Ranker],
    prompts: Sequence[PromptRow],
) -> dict[str, Answers]:
    """Return the models' answers; those that score and share a trunk are asked together."""
    found: dict[str, Answers] = {}
    for name, folder in models.items():
        if rankers[name].answers == "generate":
            found[name] = _generate(config, name, folder, prompts)
        elif name not in found:
            kind = rankers[name].answers
            left = {other: models[other] for other in models if other not in found and other != name}
            alike = {other: path for other, path in left.items() if rankers[other].answers == kind}
            depths = {other: equal_layers(folder, path) for other, path in alike.items()}
            together = {name: folder} | {other: alike[other] for other in alike if depths[other]}
            depth = min(filter(None, depths.values()), default=0)
            found |= _score(config, together, depth, rankers, prompts)
    return found


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
    config: EvaluateConfig,
    models: Mapping[str, Path],
    depth: int,
    rankers: Mapping[str, Ranker],
    prompts: Sequence[PromptRow],
) -> dict[str, Answers]:
    """Return the rankings by scores, and the answers that say their beginnings.

    The first `depth` layers of all `models` are equal; the seconds are those of one model alone.
    """
    release_memory()
    loaded = [load(folder, config.dtype) for folder in models.values()]
    kind = rankers[next(iter(models))].answers
    questions = [question(loaded[0].tokenizer, kind, prompt) for prompt in prompts]
    readers = [lm.model for lm in loaded]
    readers = Trunk(readers, depth).uppers if depth else readers
    names = ", ".join(models)
    scores, seconds = score_each(
        readers, questions, lambda scored: progress(log, scored, len(prompts), names)
    )
    retriever = [prompt.scores for prompt in prompts]
    return {
        name: Answers(
            **_ranked(rankers[name].all_logits(own, retriever), prompts), seconds=seconds, scores=own
        )
        for name, own in zip(models, scores, strict=True)
    }


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
