"""The composite reward: one pure function per term, each in [0, 1], and their weighted sum.

`R = w_lcs * LCS + w_format * format + w_reason * reasoning - penalties + sum of w_i * business_i`
(RecLLM-R1, section 3.3); with `conditional` weights, format and reasoning count only where the answer names a
label. Candidate numbers are 1-based. Change a term here, or add your own as
`module:function` in the profile: it is called with (answer: Answer, row: PromptRow) and returns a float.

>>> lcs(ranking=[4, 1, 2], labels=[4, 2])  # the first label on rank 1, the second on rank 3
0.919...
>>> lcs(ranking=[4, 1, 2], labels=[4, 2], weights=[1.0, 3.0])  # the second matters more
0.833...
"""

import importlib
import math
from collections.abc import Callable, Sequence

from components.grpo.config import RewardWeights
from components.shared.errors import ConfigError
from components.shared.metrics import mean, set_ilad
from components.shared.prompting.answer import Answer, parse
from components.shared.prompting.table import PromptRow

NOVELTY_SCALE_BITS = 20.0  # a catalogue of a million equally popular items has 20 bits an item
REASONING_WORDS = (3, 120)
FRESH_HALF_LIFE_DAYS = 90.0
TASK = ("lcs", "ndcg")
FORM = ("format", "reasoning")
PENALTIES = ("repeats", "outside", "seen", "length")

Term = Callable[[Answer, PromptRow], float]


def lcs(ranking: Sequence[int], labels: Sequence[int], weights: Sequence[float] | None = None) -> float:
    """Return the best common subsequence's share of the best attainable; 0 without labels.

    A common item counts its label's weight (of `weights`; default: all equal) / log2(rank in `ranking` + 1).
    """
    largest = max(weights or [1.0])
    if not labels or not largest:
        return 0.0
    shares = [weight / largest for weight in weights] if weights else [1.0] * len(labels)
    best = [0.0] * (len(labels) + 1)  # best[j]: the best over the ranking so far and labels[:j]
    for rank, item in enumerate(ranking, start=1):
        discount, diagonal = math.log2(rank + 1), 0.0
        for j, label in enumerate(labels, start=1):
            above = best[j]
            best[j] = max(above, best[j - 1], diagonal + shares[j - 1] / discount if item == label else 0.0)
            diagonal = above
    return best[-1] / _best_attainable(shares)


def _best_attainable(weights: Sequence[float]) -> float:
    """Return the best sum of `lcs`: any subsequence of the labels ranked first, in order."""
    best = [0.0]  # best[n]: the best that n of the labels so far attain at ranks 1 to n
    for weight in weights:
        longer = [taken + weight / math.log2(rank + 1) for rank, taken in enumerate(best, start=1)]
        best = [*map(max, best, [0.0, *longer]), longer[-1]]
    return max(best)


def ndcg(ranking: Sequence[int], row: PromptRow) -> float:
    """Return the ranked candidates' DCG, gains by engagement, over the best of as many items."""
    gained = [row.gains.get(row.candidates[number - 1], 0.0) for number in ranking]
    best = _dcg(sorted(row.label_weights, reverse=True)[: row.answer_length])
    return _dcg(gained) / best if best else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def reasoning(answer: Answer, tags: Sequence[Sequence[str]]) -> float:
    """Return 1/2 for reasoning of REASONING_WORDS, plus 1/2 for a tag of the first candidate.

    `tags[number - 1]` are those of a candidate. Without the first half there is no second.
    """
    words = answer.reasoning.split()
    if not REASONING_WORDS[0] <= len(words) <= REASONING_WORDS[1]:
        return 0.0
    first = next(iter(answer.ranking(len(tags))), None)
    text = answer.reasoning.casefold()
    named = first is not None and any(tag.casefold() in text for tag in tags[first - 1] if tag)
    return 0.5 + 0.5 * named


def repeats(numbers: Sequence[int]) -> float:
    """Return the share of numbers that repeat an earlier one; 0 for no numbers."""
    return 1 - len(set(numbers)) / len(numbers) if numbers else 0.0


def outside(numbers: Sequence[int], num_candidates: int) -> float:
    """Return the share of numbers that are not candidate numbers; 0 for no numbers."""
    return mean([float(not 1 <= number <= num_candidates) for number in numbers])


def already_seen(ranking: Sequence[int], seen: Sequence[bool]) -> float:
    """Return the share of ranked candidates that the history holds; 0 if none is ranked."""
    # The project's retrievers leave out what was seen: this is for candidates of others.
    return mean([float(seen[number - 1]) for number in ranking])


def wrong_length(numbers: Sequence[int], answer_length: int) -> float:
    """Return the relative distance of the number count from `answer_length`, at most 1."""
    return min(1.0, abs(len(numbers) - answer_length) / answer_length)


def ilad(answer: Answer, row: PromptRow) -> float:
    """Business term: mean pairwise Jaccard distance of the ranked candidates' tags."""
    return set_ilad([set(row.tags[n - 1]) for n in _ranked(answer, row)])


def novelty(answer: Answer, row: PromptRow) -> float:
    """Business term: mean self-information of the ranked candidates, in units of NOVELTY_SCALE_BITS."""
    bits = mean([row.novelty[n - 1] for n in _ranked(answer, row)])
    return min(1.0, max(0.0, bits / NOVELTY_SCALE_BITS))


def fresh(answer: Answer, row: PromptRow) -> float:
    """Business term: mean freshness, halved every FRESH_HALF_LIFE_DAYS of age; 0 for an unknown age."""
    ages = [row.age_days[n - 1] for n in _ranked(answer, row)]
    return mean([0.0 if age is None else 0.5 ** (age / FRESH_HALF_LIFE_DAYS) for age in ages])


BUSINESS: dict[str, Term] = {"ilad": ilad, "novelty": novelty, "fresh": fresh}


def business_terms(weights: RewardWeights) -> dict[str, Term]:
    """Return the business terms that the weights name: built in, or an importable `module:function`."""
    return {name: BUSINESS.get(name) or _import_term(name) for name in weights.business}


def _import_term(name: str) -> Term:
    module, _, function = name.partition(":")
    try:
        term = getattr(importlib.import_module(module), function)
        if not callable(term):
            raise TypeError("it is not callable")
        return term
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise ConfigError(
            f"grpo.reward.business: '{name}' is neither {' nor '.join(BUSINESS)} nor an importable "
            f"module:function ({type(error).__name__}: {error})"
        ) from error


def score(text: str, row: PromptRow, weights: RewardWeights, business: dict[str, Term]) -> dict[str, float]:
    """Return every term of one completion by name, and their weighted sum as "reward".

    Only the first `answer_length` numbers can earn anything: listing all candidates does not pay.
    Raises ConfigError: a business term of the user's raises, or it or the sum is not finite.
    """
    answer = parse(text)
    ranking, labels = _ranked(answer, row), row.labels[: row.answer_length]
    terms = {
        "lcs": lcs(ranking, labels, [row.gains[row.candidates[number - 1]] for number in labels]),
        "ndcg": ndcg(ranking, row),
        "format": float(answer.well_formed),
        "reasoning": reasoning(answer, row.tags),
        "repeats": repeats(answer.numbers),
        "outside": outside(answer.numbers, len(row.candidates)),
        "seen": already_seen(ranking, row.seen),
        "length": wrong_length(answer.numbers, min(row.answer_length, len(row.candidates))),
    }

    def weighed(names: Sequence[str]) -> float:
        return sum(getattr(weights, name) * terms[name] for name in names)

    task = weighed(TASK)
    total = task - weighed(PENALTIES)
    if task > 0 or not weights.conditional:
        total += weighed(FORM)
    for name, weight in weights.business.items():
        terms[name] = _call(name, business[name], answer, row)
        total += weight * terms[name]
    if not math.isfinite(total):
        raise ConfigError(f"grpo.reward: the weighted sum of the terms is {total}; lower its weights")
    return {**terms, "reward": total}


def _ranked(answer: Answer, row: PromptRow) -> list[int]:
    """Return the candidate numbers that can earn or cost anything: the first `answer_length` of them."""
    return answer.ranking(len(row.candidates))[: row.answer_length]


def _call(name: str, term: Term, answer: Answer, row: PromptRow) -> float:
    try:
        value = float(term(answer, row))
    except (Exception, SystemExit) as error:
        raise ConfigError(f"grpo.reward.business: '{name}' raised {type(error).__name__}: {error}") from error
    if not math.isfinite(value):
        raise ConfigError(f"grpo.reward.business: '{name}' returned {value}; it must be a finite number")
    return value
