"""Answers of language models to the prompts, their statistics, examples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.evaluate.config import EvaluateConfig
from components.evaluate.tables import DEPTH, Catalogue
from components.shared.language_model.generate import Completion
from components.shared.prompting import answer
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import AnswerStatistics, Example, ExampleAnswer


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
