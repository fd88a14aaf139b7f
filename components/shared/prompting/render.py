"""Every line of the prompt and of the answer that SFT teaches. Change the wording here.

The ETL step renders training and evaluation prompts with it, the registered model live requests. Bump
`PROMPT_VERSION` with every change of the text: it travels in the lineage of each model.
"""

import dataclasses
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from components.shared.prompting.settings import ItemFact, PromptSettings, Target

PROMPT_VERSION = "4"

SYSTEM = (
    "Rank what the user will engage with next. "
    "Reply as <think>reasons</think><answer>candidate numbers, best first</answer>"
)
CANDIDATES_HEADING = "Candidates:"
FACT_DAYS = 90
"""Days that an item's facts "users" and "actions" look back."""
VERBS = {
    "view": "viewed",
    "click": "clicked",
    "like": "liked",
    "save": "saved",
    "comment": "commented on",
    "share": "shared",
    "follow": "followed",
    "purchase": "bought",
}
STRENGTH = {action: rank for rank, action in enumerate(VERBS)}
"""The actions by rising engagement: a prompt names the strongest that a user took."""


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One item in the history: the user's actions on it, and the first one's time."""

    title: str
    topic: str
    actions: Sequence[str]
    timestamp: datetime

    @property
    def action(self) -> str:
        """Return the strongest action."""
        return max(self.actions, key=lambda action: STRENGTH.get(action, -1))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One numbered line of the candidate list."""

    title: str
    topic: str
    facts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class PromptInput:
    """What a prompt is made of, all of it strictly before the label in time.

    `history` is oldest first; `interests` are (topic, count), most frequent first; `activity` are lines on
    windows of time; `profile` maps a field's name to text, number or list, of which empty ones are left out.
    """

    profile: Mapping[str, Any]
    history: Sequence[Interaction]
    interests: Sequence[tuple[str, int]]
    candidates: Sequence[Candidate]
    now: datetime
    answer_length: int
    activity: Sequence[str] = ()


def shown_title(item: Mapping[Any, Any], settings: PromptSettings) -> str:
    """Return the item's shortened title, with its brand if asked for; its id without `natural_language`."""
    if not settings.natural_language:
        return item.get("item_id") or ""
    title, brand = item.get("title") or "", item.get("brand") if "brand" in settings.item_facts else None
    named = f" by {brand}" if brand and brand.casefold() not in title.casefold() else ""
    return shorten(title, settings.title_chars) + named


def recent(history: Sequence[Interaction], now: datetime, settings: PromptSettings) -> list[Interaction]:
    """Return the short-term part of `history` (oldest first)."""
    if settings.history_days:
        since = now - timedelta(days=settings.history_days)
        history = [past for past in history if past.timestamp >= since]
    return list(history[max(0, len(history) - settings.max_history) :])


def topic_counts(topics: Iterable[str], limit: int) -> list[tuple[str, int]]:
    """Return the `limit` most frequent topics with their counts, equals in alphabetical order."""
    return most_frequent(Counter(topic for topic in topics if topic), limit)


def most_frequent(counts: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """Return the `limit` topics with the largest counts, equals in alphabetical order."""
    return sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))[:limit]


def item_facts(item: Mapping[Any, Any], settings: PromptSettings) -> tuple[str, ...]:
    """Return the known facts of `item` that `settings` asks for, in their order.

    `item` has tags, description, the counts of its actions, and the numbers users, last (days) and together.
    Its brand belongs to the title.
    """
    return tuple(text for name in settings.item_facts if (text := _fact(name, item, settings)))


def _fact(name: ItemFact, item: Mapping[Any, Any], settings: PromptSettings) -> str:
    value = item.get(name)
    if value is None:
        return ""
    match name:
        case "tags":
            return ", ".join(tag for tag in value if tag != item.get("topic"))
        case "description":
            return shorten(value, settings.description_chars)
        case "actions":
            done = _counted_actions(value)
            return f"{done} in {FACT_DAYS} days" if done else ""
        case "users":
            return f"{value} users in {FACT_DAYS} days"
        case "last":
            return f"last met {value} days ago"
        case "together":
            return f"{value} times with the latest item"
        case "brand":
            return ""


def _counted_actions(counts: Mapping[str, int]) -> str:
    """Return how often each action was taken, by rising engagement: "viewed 2, saved 1"."""
    return ", ".join(f"{VERBS[action]} {counts[action]}" for action in VERBS if counts.get(action))


def activity_lines(history: Iterable[Interaction], now: datetime, settings: PromptSettings) -> list[str]:
    """Return one line per window of `activity_days`: topics with how often each action was taken."""
    lines, history = [], list(history)
    for days in settings.activity_days:
        since = now - timedelta(days=days)
        within = [past for past in history if past.timestamp >= since]
        told = []
        for topic, _ in topic_counts((past.topic for past in within), settings.interests):
            counts = Counter(action for past in within if past.topic == topic for action in past.actions)
            told.append(f"{topic} ({_counted_actions(counts)})")
        if told:
            lines.append(f"Past {days} days: {', '.join(told)}.")
    return lines


def messages(prompt: PromptInput, settings: PromptSettings | None = None) -> list[dict[str, str]]:
    """Return the chat messages (system, user) for `prompt`; only the switches of `settings` count here."""
    settings = settings or PromptSettings()
    lines = []
    if settings.with_profile and (profile := _profile_line(prompt.profile)):
        lines.append(profile)
    if settings.with_interests and prompt.interests:
        listed = ", ".join(f"{topic} ({count})" for topic, count in prompt.interests)
        lines.append(f"Long-term interests: {listed}.")
    lines += prompt.activity
    lines.append("Recent activity, oldest first:")
    if settings.natural_language:
        lines += _history_lines(prompt.history, prompt.now) or ["- none"]
    else:
        lines.append(" ".join(past.title for past in prompt.history) or "none")
    lines.append(CANDIDATES_HEADING)
    for number, candidate in enumerate(prompt.candidates, start=1):
        topic = f"{candidate.topic}: " if settings.natural_language and candidate.topic else ""
        lines.append(f"- {topic}{'; '.join([_numbered(number, candidate), *candidate.facts])}")
    lines.append(f"Which {prompt.answer_length} come next?")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def before_candidates(content: str) -> str:
    """Return the message up to the candidate list; all of it if there is none."""
    return content.partition(f"\n{CANDIDATES_HEADING}\n")[0]


def completion(
    prompt: PromptInput, labels: Sequence[int], target: Target = "labels", rationale: bool = True
) -> str:
    """Return the answer that SFT teaches.

    `labels` are candidate numbers (1-based), the strongest engagement first, or with "teacher" all in the
    teacher's order. They come first, the others behind them as the prompt lists them; with "cues" the most
    matched cues come first, labels before equals. The rationale says only what the prompt shows: what speaks
    for the first number, with "cues" the history's cues.
    """
    order = list(dict.fromkeys([*labels, *range(1, len(prompt.candidates) + 1)]))
    if target != "cues":
        best = order[0]
        topics, words = _shared_with_history(prompt.candidates[best - 1], prompt.history)
        matches = [_numbered(best, prompt.candidates[best - 1])]
    else:
        topics, words = recent_topic(prompt.history), recurring_words(prompt.history)
        counts = [_matches(candidate, topics, words) for candidate in prompt.candidates]
        matches = _best(prompt, counts)
        order.sort(key=lambda number: -counts[number - 1])
    cues = [("Recent interest", topics), ("Recurring words", words), ("Best matches", matches)]
    reasons = " ".join(f"{name}: {', '.join(listed)}." for name, listed in cues if listed)
    ranked = ", ".join(map(str, order[: prompt.answer_length]))
    return f"<think>{reasons if rationale else ''}</think><answer>{ranked}</answer>"


def _shared_with_history(candidate: Candidate, history: Sequence[Interaction]) -> tuple[list[str], list[str]]:
    """Return the candidate's topic and title words that the history shows; either may be []."""
    topics = {past.topic for past in history}
    met = {word for past in history for word in _words(past.title)} - _words(candidate.topic).keys()
    words = [spelling for word, spelling in _words(candidate.title).items() if word in met]
    return [candidate.topic] if candidate.topic and candidate.topic in topics else [], words


def _best(prompt: PromptInput, matches: Sequence[int]) -> list[str]:
    """Return the first two candidates with the most matched cues, as the prompt names them."""
    most = max(matches, default=0)
    found = [number for number, count in enumerate(matches, start=1) if count == most > 0]
    return [_numbered(number, prompt.candidates[number - 1]) for number in found[:2]]


def _numbered(number: int, candidate: Candidate) -> str:
    # The number stands behind the title: a causal model that copies a title then comes upon its number.
    return f"{candidate.title} [{number}]"


def _matches(candidate: Candidate, topics: Sequence[str], words: Sequence[str]) -> int:
    found = _words(candidate.title)
    return (candidate.topic in topics) + sum(word.casefold() in found for word in words)


def recent_topic(history: Sequence[Interaction]) -> list[str]:
    """Return the latest topic; none if no interaction has one."""
    return [past.topic for past in history if past.topic][-1:]


def recurring_words(history: Sequence[Interaction]) -> list[str]:
    """Return the word in the most titles, at least two; the latest on a tie.

    It is a taste that crosses topics: a brand, a style. Topics' own words do not count. May be [].
    """
    topical = {word for past in history for word in _words(past.topic)}
    seen: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for past in reversed(history):
        spellings = _words(past.title)
        counts.update(spellings.keys() - topical)
        seen |= {word: spelling for word, spelling in spellings.items() if word not in seen}
    most = max(seen, key=lambda word: counts[word], default="")
    return [seen[most]] if counts[most] >= 2 else []


def _words(text: str) -> dict[str, str]:
    """Return the words of four letters or more, in text order, by case-folded form."""
    return {word.casefold(): word for word in re.findall(r"[^\W\d_]{4,}", text)}


def fit(
    prompt: PromptInput, count_tokens: Callable[[list[dict[str, str]]], int], settings: PromptSettings
) -> tuple[PromptInput, int]:
    """Return the prompt with its oldest history cut to `settings.max_prompt_tokens`, and how many were cut.

    Raises ValueError: it is too long even without any history.
    """

    def shortened(cut: int) -> PromptInput:
        return dataclasses.replace(prompt, history=prompt.history[cut:])

    def tokens(cut: int) -> int:
        return count_tokens(messages(shortened(cut), settings))

    limit = settings.max_prompt_tokens
    if tokens(0) <= limit:  # most prompts fit, and counting is what rendering costs
        return prompt, 0
    cuts = len(prompt.history)
    cut = bisect_left(range(cuts + 1), True, lo=1, key=lambda cut: tokens(cut) <= limit)
    if cut > cuts:
        raise ValueError(
            f"the prompt has {tokens(cuts)} tokens without any history, more than max_prompt_tokens={limit}; "
            "raise it, or ask for fewer candidates or shorter titles"
        )
    return shortened(cut), cut


def shorten(title: str, max_chars: int) -> str:
    """Return `title` cut between words to at most `max_chars` characters, "…" included."""
    if len(title) <= max_chars:
        return title
    head = title[: max_chars - 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head).rstrip(" ,;:-") + "…"


def _profile_line(profile: Mapping[str, Any]) -> str:
    parts = []
    for name, value in profile.items():
        if value not in (None, "", [], ()):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            parts.append(f"{name.replace('_', ' ')} {text}")
    return f"User profile: {'; '.join(parts)}." if parts else ""


def _history_lines(history: Sequence[Interaction], now: datetime) -> list[str]:
    """Return one line for each run of consecutive interactions on one topic and day."""
    lines = []
    for (topic, when), run in groupby(history, lambda past: (past.topic, relative_time(past.timestamp, now))):
        done = ", ".join(_done(past) for past in run)
        lines.append(f"- {when}{f', {topic}' if topic else ''}: {done}")
    return lines


def _done(past: Interaction) -> str:
    """Return the strongest action on an item, and how often if more than once."""
    strongest = past.action
    times = list(past.actions).count(strongest)
    often = "" if times < 2 else " twice" if times == 2 else f" {times} times"
    return f"{VERBS.get(strongest, strongest)} '{past.title}'{often}"


def relative_time(then: datetime, now: datetime) -> str:
    """Return how long ago `then` was, in coarse words ("today", "3 days ago")."""
    days = (now - then).days
    if days < 1:
        return "today"
    units = ((365, "year"), (30, "month"), (7, "week"), (1, "day"))
    count, name = next((days // size, name) for size, name in units if days >= size)
    return f"{count} {name}{'s' if count > 1 else ''} ago"
