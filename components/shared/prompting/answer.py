"""Reading a model's answer. Never raises: bad text is a finding that the caller scores."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TAGLESS = r"(?:(?!</?(?:think|answer)>).)*"
_SHAPE = re.compile(
    rf"\s*<think>(?P<think>{_TAGLESS})</think>\s*<answer>(?P<answer>{_TAGLESS})</answer>\s*", re.DOTALL
)
_NUMBERS = re.compile(r"\s*[0-9]{1,6}(?:\s*,\s*[0-9]{1,6})*\s*")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A completion's reasoning and all its numbers in order, repeated or unknown ones included.

    Well-formed: exactly one think block, then one answer block of ASCII numbers separated by commas, and
    nothing else. Otherwise reasoning and numbers are empty.
    """

    reasoning: str
    numbers: tuple[int, ...]
    well_formed: bool

    def ranking(self, num_candidates: int) -> list[int]:
        """Return the usable numbers: first mentions within 1..num_candidates, in order."""
        return list(dict.fromkeys(n for n in self.numbers if 1 <= n <= num_candidates))

    def is_valid(self, num_candidates: int, answer_length: int) -> bool:
        """Return whether the answer keeps every rule: shape, range, no repeats, exact length."""
        usable = self.ranking(num_candidates)
        return self.well_formed and len(usable) == len(self.numbers) == min(answer_length, num_candidates)


def parse(text: str) -> Answer:
    """Parse one completion (special tokens removed). Source: the answer format of the paper, section 3."""
    match = _SHAPE.fullmatch(text)
    if not match or not _NUMBERS.fullmatch(match["answer"]):
        return Answer(reasoning="", numbers=(), well_formed=False)
    numbers = tuple(int(number) for number in re.findall("[0-9]+", match["answer"]))
    return Answer(reasoning=match["think"].strip(), numbers=numbers, well_formed=True)


def final_ranking(text: str, candidates: Sequence[str]) -> list[str]:
    """Return all `candidates`: first those the completion ranks, then the rest in their order.

    An unusable completion therefore keeps the candidates' order.
    """
    named = [number - 1 for number in parse(text).ranking(len(candidates))]
    return [candidates[i] for i in dict.fromkeys([*named, *range(len(candidates))])]
