"""Sampling groups of answers and scoring them; validation by the metric that the gate looks at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from components.grpo.config import GrpoConfig, RewardWeights
from components.grpo.plackett_luce import credited_ranks, ranking_log_probs, sample_rankings
from components.grpo.rewards import Term, business_terms, score
from components.shared.language_model.checks import check_length
from components.shared.language_model.generate import complete, sample
from components.shared.language_model.load import (
    LanguageModel,
    answer_prefix,
    context_length,
    encode_completion,
    encode_prompt,
)
from components.shared.language_model.packing import token_log_probs
from components.shared.language_model.ranker import Ranker, target_shares
from components.shared.language_model.scoring import (
    Question,
    answer_of,
    batches,
    check_context,
    model_scores,
    question,
    ranking,
    score_all,
)
from components.shared.metrics import judge, mean, numbered
from components.shared.prompting.answer import final_ranking, parse
from components.shared.prompting.table import PromptRow


@dataclass(frozen=True, kw_only=True)
class Group:
    """One prompt with its sampled answers: token ids, and the terms of their rewards.

    `target_ids` are the answer that SFT teaches.
    """

    prompt_ids: list[int]
    target_ids: list[int]
    answer_ids: list[list[int]]
    scores: list[dict[str, float]]

    @property
    def lengths(self) -> list[int]:
        """Return the answers' tokens."""
        return [len(ids) for ids in self.answer_ids]


@dataclass(frozen=True, kw_only=True)
class RankedGroup:
    """One prompt of a scoring model with its sampled rankings, (samples, ranks), and their rewards.

    `labels` are the numbers of candidates, from 1; their `shares` in the engagement, or a teacher's, are what
    SFT teaches.
    """

    question: Question
    retriever: list[float]
    labels: list[int]
    shares: list[float]
    ranker: Ranker
    rankings: torch.Tensor
    scores: list[dict[str, float]]

    @property
    def lengths(self) -> list[int]:
        """Return the rankings' lengths."""
        return [self.rankings.shape[1]] * len(self.rankings)

    def credits(self) -> torch.Tensor:
        """Return the ranks that can change the reward by where the labels stand, (samples, ranks)."""
        is_label = torch.zeros(len(self.retriever), dtype=torch.bool, device=self.rankings.device)
        is_label[[number - 1 for number in self.labels]] = True
        return credited_ranks(self.rankings, is_label)

    def logits(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the candidates' logits, given the model's scores."""
        return self.ranker.logits(scores, scores.new_tensor(self.retriever))


def micro_batches(
    groups: Sequence[Group | RankedGroup], device: torch.device
) -> Sequence[Sequence[Group | RankedGroup]]:
    """Return groups that share a forward pass: one of generated answers, several of rankings."""
    ranked = [group for group in groups if isinstance(group, RankedGroup)]
    if not ranked:
        return [[group] for group in groups]
    shared = batches([group.question for group in ranked], device)
    return [[ranked[n] for n in batch] for batch in shared]


def _scores(model: Any, groups: Sequence[Group | RankedGroup]) -> Iterator[torch.Tensor]:
    """Return the scores of the candidates of each ranked group, from one pass for all."""
    return iter(model_scores(model, [group.question for group in groups if isinstance(group, RankedGroup)]))


def log_probs(
    model: Any, groups: Sequence[Group | RankedGroup], temperature: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return each group's log-probabilities and entropies, of tokens or of ranks: (answers, longest)."""
    scores = _scores(model, groups)
    return [
        ranking_log_probs(group.logits(next(scores)) / temperature, group.rankings)
        if isinstance(group, RankedGroup)
        else token_log_probs(model, group.prompt_ids, group.answer_ids, temperature)
        for group in groups
    ]


def target_log_probs(model: Any, groups: Sequence[Group | RankedGroup]) -> list[torch.Tensor]:
    """Return the log-likelihood of what SFT teaches for each prompt, of an answer per token."""
    scores = _scores(model, groups)
    found = []
    for group in groups:
        if isinstance(group, RankedGroup):
            found.append(group.ranker.log_likelihood(next(scores), group.retriever, group.shares))
        else:
            found.append(token_log_probs(model, group.prompt_ids, [group.target_ids])[0].mean())
    return found


def longest_prompt(
    config: GrpoConfig, tokenizer: Any, rows: Sequence[PromptRow], limits: Mapping[str, int | None]
) -> int:
    """Return the longest prompt's token count. Raises ConfigError if, answer included, it exceeds a limit."""
    longest = max(len(encode_prompt(tokenizer, row.messages)) for row in rows)
    for name, limit in limits.items():
        remedy = "lower prompts.max_prompt_tokens or grpo.max_new_tokens"
        check_length(longest + config.max_new_tokens, limit, remedy, name)
    return longest


def check_lengths(config: GrpoConfig, lm: LanguageModel, rows: Sequence[PromptRow]) -> None:
    """Raise ConfigError if a row, its answer included, exceeds the model's context."""
    answers = Ranker.of(lm.model).answers
    if answers == "generate":
        limit = context_length(lm.model.config)
        longest_prompt(config, lm.tokenizer, rows, {"the model's context": limit})
    else:
        check_context(lm, [question(lm.tokenizer, answers, row) for row in rows])


def sample_groups(
    lm: LanguageModel,
    rows: Sequence[PromptRow],
    config: GrpoConfig,
    business: dict[str, Term],
    generator: torch.Generator,
) -> Sequence[Group | RankedGroup]:
    """Return one group of `config.group_size` rewarded answers or rankings for each row."""
    if (ranker := Ranker.of(lm.model)).answers != "generate":
        return _ranked_groups(lm, rows, config, business, generator, ranker)
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
    groups = []
    for row, prompt, answers in zip(rows, prompts, sampled, strict=True):
        texts = [prefix + lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]
        scores = [score(text, row, config.reward, business) for text in texts]
        target = encode_completion(lm.tokenizer, row.completion or "")
        groups.append(Group(prompt_ids=prompt, target_ids=target, answer_ids=answers, scores=scores))
    return groups


def _ranked_groups(
    lm: LanguageModel,
    rows: Sequence[PromptRow],
    config: GrpoConfig,
    business: dict[str, Term],
    generator: torch.Generator,
    ranker: Ranker,
) -> list[RankedGroup]:
    questions = [question(lm.tokenizer, ranker.answers, row) for row in rows]
    logits = ranker.all_logits(score_all(lm, questions), [row.scores for row in rows])
    groups = []
    for row, asked, values in zip(rows, questions, logits, strict=True):
        tempered = torch.tensor(values, device=lm.device) / config.temperature
        rankings = sample_rankings(tempered, config.group_size, row.answer_length, generator)
        texts = [answer_of(numbers) for numbers in (rankings + 1).tolist()]
        scores = [score(text, row, config.reward, business) for text in texts]
        groups.append(
            RankedGroup(
                question=asked,
                retriever=row.scores,
                labels=row.labels,
                shares=target_shares(row),
                ranker=ranker,
                rankings=rankings,
                scores=scores,
            )
        )
    return groups


def rollout_figures(groups: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Return every term's mean over answers, and the share of groups with flat task reward."""
    answers = [scores for group in groups for scores in group]
    flat = [len({scores["lcs"] for scores in group}) == 1 for group in groups]
    return {
        **{name: mean([scores[name] for scores in answers]) for name in answers[0]},
        "groups_without_task_variance": sum(flat) / len(flat),
    }


def validate(
    lm: LanguageModel, rows: Sequence[PromptRow], config: GrpoConfig
) -> tuple[dict[str, list[float]], list[str]]:
    """Return the `validation_scores` of greedy answers to `rows`, and the answers' texts."""
    if (ranker := Ranker.of(lm.model)).answers != "generate":
        scores = score_all(lm, [question(lm.tokenizer, ranker.answers, row) for row in rows])
        logits = ranker.all_logits(scores, [row.scores for row in rows])
        orders = [ranking(values) for values in logits]
        texts = [answer_of(order[: row.answer_length]) for order, row in zip(orders, rows, strict=True)]
        return validation_scores(texts, rows, config.reward), texts
    prompts, batch_size = [row.messages for row in rows], config.eval_batch_size
    completions = complete(lm, prompts, max_new_tokens=config.max_new_tokens, batch_size=batch_size)
    texts = [samples[0].text for samples in completions]
    return validation_scores(texts, rows, config.reward), texts


def validation_scores(
    texts: Sequence[str], rows: Sequence[PromptRow], weights: RewardWeights
) -> dict[str, list[float]]:
    """Return per answer its NDCG@10 over all labels, and 1 if it is valid.

    Where business terms have weight, also the reward.
    """
    rankings = [final_ranking(text, row.candidates) for text, row in zip(texts, rows, strict=True)]
    valid = [
        float(parse(text).is_valid(len(row.candidates), row.answer_length))
        for text, row in zip(texts, rows, strict=True)
    ]
    judged = judge(*numbered(rankings, [row.label_items for row in rows]))
    scores = {"valid_ndcg@10": judged.ndcg(10).tolist(), "valid_share": valid}
    if any(weights.business.values()):
        terms = business_terms(weights)
        rewards = [score(text, row, weights, terms)["reward"] for text, row in zip(texts, rows, strict=True)]
        scores["valid_reward"] = rewards
    return scores
