"""Constrained decoding: which tokens may come next, so that every answer is valid.

What the model thinks is free, but for the tags; the numbers are written as SFT teaches them. A thought that
leaves no more tokens than the answer needs is closed (budget forcing, https://arxiv.org/abs/2501.19393).
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

OPEN, CLOSE, BEGIN, END = "<think>", "</think>", "<answer>", "</answer>"

_TAG = re.compile("|".join((OPEN, CLOSE, BEGIN, END)))


@dataclass(frozen=True)
class Shape:
    """Valid answers to one prompt: `length` different numbers of 1..`candidates`, at most all."""

    candidates: int
    length: int


class Grammar:
    """The answer format in the tokens of one tokenizer."""

    def __init__(self, tokenizer: Any, stop_ids: Iterable[int]) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = list(stop_ids)
        self.encode = cache(self._encode)
        self.piece = cache(self._piece)
        self.forbidden = cache(self._forbidden)
        self.opening = cache(self._opening)
        self.end = [*self.encode(END), tokenizer.eos_token_id]
        pieces = {i: self.piece(i) for i in range(len(tokenizer))}
        self._ends_of_tags = [i for i, piece in pieces.items() if ">" in piece]
        self.blank = [i for i, piece in pieces.items() if piece and not piece.strip()]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _piece(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special_tokens=True)

    def _forbidden(self, tail: str) -> list[int]:
        """Return the tokens that may not follow a thought that ends with `tail`."""
        broken = [i for i in self._ends_of_tags if not _may_stand(tail + self.piece(i))]
        return [*self.stop_ids, *broken]

    def _opening(self, rest: str) -> list[int]:
        """Return the tokens that begin or complete the `rest` of the first tag."""
        complete = [i for i in self._ends_of_tags if self.piece(i).startswith(rest)]
        return [
            *self.encode(rest)[:1],
            *(i for i in complete if _may_stand(self.piece(i).removeprefix(rest))),
        ]


class ConstrainedAnswer:
    """An answer in the making: what it holds, and which tokens may follow."""

    def __init__(self, grammar: Grammar, shape: Shape, max_new_tokens: int, prefill: str = "") -> None:
        self._grammar = grammar
        self._text = prefill  # up to the numbers
        self._numbers = _Numbers(grammar, shape)
        self._taken, self._most = 0, max_new_tokens
        self._reserve = len(grammar.encode(CLOSE + BEGIN)) + 1 + self._numbers.longest()  # one blank
        self.was_closed = False
        """Whether the thought had to be closed for want of tokens."""
        self.preferred: int | None = None
        """What the model would have written next without the constraint."""
        self.was_corrected = False
        """Whether a token was not the preferred one."""
        self._close_in_time()

    def take_up_to(self, token_ids: Sequence[int]) -> None:
        """Go on after `token_ids`, all tokens of the answer, of which some are taken already."""
        for token in token_ids[self._taken :]:
            self.take(token)

    def take(self, token: int) -> None:
        """Go on after `token`."""
        self.was_corrected |= token != self.preferred
        self._taken += 1
        if self._text.endswith(BEGIN):
            self._numbers.take(token)
        else:
            self._text += self._grammar.piece(token)
            self._close_in_time()

    def _close_in_time(self) -> None:
        if self._text.startswith(OPEN) and CLOSE not in self._text:
            self.was_closed = self.was_closed or self._most - self._taken <= self._reserve

    def choices(self) -> tuple[Collection[int], bool]:
        """Return the tokens that may come next (True), or may not (False)."""
        thought, close, rest = self._text.partition(CLOSE)
        if not thought.startswith(OPEN):
            return self._grammar.opening(OPEN[len(thought) :]), True
        if not close:
            tail = _tail(thought)
            if not self.was_closed:
                return self._grammar.forbidden(tail), False
            return self._first((CLOSE + BEGIN)[len(tail) if CLOSE.startswith(tail) else 0 :]), True
        if not rest:
            return [*self._first(BEGIN), *self._grammar.blank], True
        if (begun := rest.strip()) != BEGIN:
            return self._first(BEGIN[len(begun) :]), True
        return self._numbers.choices(), True

    def _first(self, text: str) -> list[int]:
        return self._grammar.encode(text)[:1]


class _Numbers:
    """The numbers of an answer so far; the token after a number completes it."""

    def __init__(self, grammar: Grammar, shape: Shape) -> None:
        self.grammar = grammar
        self.unused = list(range(1, shape.candidates + 1))
        self.missing = min(shape.length, shape.candidates)
        self.separator = ""
        self.partial: list[int] = []  # tokens since the last complete number

    def longest(self) -> int:
        """Return the most tokens that are still to come."""
        written = (len(self.grammar.encode(f", {number}")) for number in self.unused)
        return self.missing * max(written, default=0) + len(self.grammar.end)

    def choices(self) -> set[int]:
        """Return the tokens that may come next."""
        at = len(self.partial)
        if not self.missing:
            return {self.grammar.end[at]}
        spelled = self._spelled().values()
        longer = {ids[at] for ids in spelled if ids[:at] == self.partial and len(ids) > at}
        return longer | self._after(self._complete())

    def take(self, token: int) -> None:
        """Go on after `token`."""
        number = self._complete()
        if number is None or token not in self._after(number):
            self.partial.append(token)
            return
        self.unused.remove(number)
        self.missing -= 1
        self.separator, self.partial = ", ", [token]

    def _spelled(self) -> dict[int, list[int]]:
        return {number: self.grammar.encode(f"{self.separator}{number}") for number in self.unused}

    def _complete(self) -> int | None:
        """Return the number that is written, if one is."""
        if not self.missing:
            return None
        return next((number for number, ids in self._spelled().items() if ids == self.partial), None)

    def _after(self, number: int | None) -> set[int]:
        """Return the tokens that may follow the complete `number`."""
        if number is None:
            return set()
        if self.missing == 1:
            return {self.grammar.end[0]}
        return {self.grammar.encode(f", {other}")[0] for other in self.unused if other != number}


def restrict(logits: torch.Tensor, answers: Mapping[int, ConstrainedAnswer]) -> None:
    """Set the logits of tokens that may not follow to -inf.

    `logits` are (rows, vocabulary), `answers` those of rows that are constrained.
    """
    preferred = logits.argmax(-1).tolist()
    allowed: tuple[list[int], list[int]] = ([], [])
    forbidden: tuple[list[int], list[int]] = ([], [])
    for row, answer in answers.items():
        answer.preferred = preferred[row]
        tokens, may_follow = answer.choices()
        rows, columns = allowed if may_follow else forbidden
        rows += [row] * len(tokens)
        columns += tokens
    kept = logits[allowed]
    logits[sorted(set(allowed[0]))] = -torch.inf
    logits[allowed] = kept
    logits[forbidden] = -torch.inf


def _tail(thought: str) -> str:
    """Return the beginning of a tag with which the thought ends, or nothing."""
    tail = thought[thought.rfind("<") :] if "<" in thought else ""
    return tail if any(tag.startswith(tail) for tag in (OPEN, CLOSE, BEGIN, END)) else ""


def _may_stand(text: str) -> bool:
    """Return whether a thought may end with `text`, or go over into the answer."""
    tag = _TAG.search(text)
    return not tag or (tag[0] == CLOSE and BEGIN.startswith(text[tag.end() :].strip()))
