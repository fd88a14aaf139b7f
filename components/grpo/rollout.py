"""Sampling groups of answers and scoring them; validation by the metric that the gate looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from components.grpo.config import GrpoConfig
from components.grpo.rewards import Term, score
from components.shared.language_model.checks import check_length
from components.shared.language_model.generate import complete, sample
from components.shared.language_model.load import LanguageModel, answer_prefix, encode_prompt
from components.shared.metrics import mean, ndcg_at_k
from components.shared.prompting.answer import final_ranking, parse
from components.shared.prompting.table import PromptRow

VALIDATION_K = 10


@dataclass(frozen=True, kw_only=True)
class Group:
    """One prompt with its sampled answers: token ids, their scores by term, and their reward."""

    prompt_ids: list[int]
    answer_ids: list[list[int]]
    scores: list[dict[str, float]]

    @property
    def rewards(self) -> list[float]:
        """Return the reward of each answer."""
        return [scores["reward"] for scores in self.scores]


def longest_prompt(
    config: GrpoConfig, tokenizer: Any, rows: Sequence[PromptRow], limits: Mapping[str, int | None]
) -> int:
    """Return the tokens of the longest prompt of `rows`; `limits` by their names bound it with its answer.

    Raises:
        ConfigError: it exceeds a limit.
    """
    longest = max(len(encode_prompt(tokenizer, row.messages)) for row in rows)
    for name, limit in limits.items():
        remedy = "lower prompts.max_prompt_tokens or grpo.max_new_tokens"
        check_length(longest + config.max_new_tokens, limit, remedy, name)
    return longest


def sample_groups(
    lm: LanguageModel,
    rows: Sequence[PromptRow],
    config: GrpoConfig,
    business: dict[str, Term],
    generator: torch.Generator,
) -> list[Group]:
    """Return one group of `config.group_size` scored answers for each row."""
    prompts = [encode_prompt(lm.tokenizer, row.messages) for row in rows]
    sampled = sample(
        lm,
        prompts,
        num_samples=config.group_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        generator=generator,
    )
    prefix = answer_prefix(lm.tokenizer)
    return [
        Group(
            prompt_ids=prompt,
            answer_ids=answers,
            scores=[
                score(
                    prefix + lm.tokenizer.decode(ids, skip_special_tokens=True), row, config.reward, business
                )
                for ids in answers
            ],
        )
        for row, prompt, answers in zip(rows, prompts, sampled, strict=True)
    ]


def rollout_figures(groups: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Return the mean of every term over all answers, and the share of groups whose task reward is flat."""
    answers = [scores for group in groups for scores in group]
    flat = [len({scores["lcs"] for scores in group}) == 1 for group in groups]
    return {
        **{name: mean([scores[name] for scores in answers]) for name in answers[0]},
        "groups_without_task_variance": sum(flat) / len(flat),
    }


def validate(
    lm: LanguageModel, rows: Sequence[PromptRow], config: GrpoConfig
) -> tuple[dict[str, float], list[str]]:
    """Return the mean `validation_scores` of greedy answers to `rows`, and the answers' texts."""
    completions = complete(
        lm,
        [row.messages for row in rows],
        max_new_tokens=config.max_new_tokens,
        batch_size=config.eval_batch_size,
    )
    texts = [samples[0].text for samples in completions]
    return validation_figures(texts, rows), texts


def validation_figures(texts: Sequence[str], rows: Sequence[PromptRow]) -> dict[str, float]:
    """Return the means of `validation_scores`."""
    return {name: mean(values) for name, values in validation_scores(texts, rows).items()}


def validation_scores(texts: Sequence[str], rows: Sequence[PromptRow]) -> dict[str, list[float]]:
    """Return per answer its NDCG@10 over all labels, and 1 if it is valid."""
    pairs = list(zip(texts, rows, strict=True))
    return {
        "valid_ndcg@10": [
            ndcg_at_k(final_ranking(text, row.candidates), set(row.label_items), VALIDATION_K)
            for text, row in pairs
        ],
        "valid_share": [
            float(parse(text).is_valid(len(row.candidates), row.answer_length)) for text, row in pairs
        ],
    }
