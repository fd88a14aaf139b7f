"""One prompt from one case: what the user did before the label, the candidates, and the answer key."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from components.etl.config import PromptsConfig
from components.etl.prompts.statistics import EPOCH, facts_at
from components.shared.metrics import self_information
from components.shared.prompting.render import (
    Candidate,
    Interaction,
    PromptInput,
    activity_lines,
    completion,
    fit,
    item_facts,
    messages,
    recent,
    shown_title,
    topic_counts,
)
from components.shared.prompting.settings import PromptSettings

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CatalogueStatistics:
    """Of the train part: its interactions, and the number of items in the catalogue."""

    interactions: int
    items: int


def history_before(position: int, events: Sequence[Row]) -> list[Row]:
    """Return the user's events before the first one on the item at `position`."""
    for index, event in enumerate(events):
        if event["position"] == position:
            return list(events[:index])
    raise ValueError(f"no event on the item at position {position}")


def render(
    case: Row,
    config: PromptsConfig,
    statistics: CatalogueStatistics,
    count_tokens: Callable[[list[dict[str, str]]], int],
) -> dict[str, Any]:
    """Return the PROMPTS row of `case`, `history_cut`, `history_positions` and `shown_until`.

    `case` has user_id, split, position, label_positions, item_ids (the sequence), engagement, events,
    candidates (item ids, retriever's order), their scores, the teacher's or None, profile (of the user),
    together (`together_days`) and items: item id -> catalogue row (`with_facts`), for every item that the
    case names. `shown_until` is the latest time of anything that the prompt shows.
    Raises ValueError: the prompt does not fit even without history, an item is not in the catalogue, or the
    target is a teacher's order and there is none.
    """
    items, candidates = case["items"], _ordered(case, config)
    if missing := [i for i in (*candidates, *case["item_ids"][: case["position"]]) if i not in items]:
        raise ValueError(f"item {missing[0]!r} is not in the catalogue")
    history = history_before(case["position"], case["events"])
    now = case["events"][len(history)]["timestamp"]
    interactions = _interactions(history, case, config)
    shown, until = _candidates(candidates, case, now, config)
    prompt = PromptInput(
        profile=_profile(case, config),
        history=recent(interactions, now, config),
        interests=topic_counts((past.topic for past in interactions), config.interests),
        candidates=shown,
        now=now,
        answer_length=min(config.answer_length, len(candidates)),
        activity=activity_lines(interactions, now, config),
    )
    fitted, cut = fit(prompt, count_tokens, config)
    number = {item: n for n, item in enumerate(candidates, start=1)}
    score = dict(zip(case["candidates"], case["scores"], strict=True))
    met = {case["item_ids"][event["position"]] for event in history}
    label_items = [case["item_ids"][p] for p in case["label_positions"]]
    weights = [case["engagement"][p] for p in case["label_positions"]]
    labels = [number[item] for item in label_items if item in number]
    gain = dict(zip(label_items, weights, strict=True))
    order = sorted(labels, key=lambda n: -gain[candidates[n - 1]])
    teacher = _teacher(case, candidates, config)
    if teacher:
        order = sorted(number.values(), key=lambda n: -teacher[n - 1])
    teaches = case["split"] == "train" and order
    return {
        "user_id": case["user_id"],
        "split": case["split"],
        "position": case["position"],
        "messages": messages(fitted, config),
        "labels": labels,
        "label_items": label_items,
        "label_weights": weights if any(weights) else [1.0] * len(weights),
        "answer_length": prompt.answer_length,
        "candidates": candidates,
        "scores": [score[item] for item in candidates],
        "teacher": teacher,
        "titles": [candidate.title for candidate in fitted.candidates],
        "history": [past.title for past in fitted.history],
        "tags": [list(items[item]["tags"]) for item in candidates],
        "novelty": _novelty(case, candidates, statistics),
        "seen": [item in met for item in candidates],
        "age_days": [_age_days(items[item]["created_at"], now) for item in candidates],
        "days_since_last": (now - history[-1]["timestamp"]).total_seconds() / 86_400 if history else None,
        "groups": _groups(case["profile"]),
        "completion": completion(fitted, order, config.target, config.rationale) if teaches else None,
        "history_cut": cut,
        "shown_until": max([until, *(event["timestamp"] for event in history)]),
        "history_positions": sorted({event["position"] for event in history}),
    }


def _teacher(case: Row, candidates: Sequence[str], config: PromptsConfig) -> list[float] | None:
    """Return the teacher's scores of a train prompt's `candidates`, if its order is the target."""
    if config.target != "teacher" or case["split"] != "train":
        return None
    if case["teacher"] is None:
        raise ValueError(
            "target 'teacher': the candidates have no teacher's scores; set retrieve.blend.learner to teacher"
        )
    of_item = dict(zip(case["candidates"], case["teacher"], strict=True))
    return [of_item[item] for item in candidates]


def _ordered(case: Row, config: PromptsConfig) -> list[str]:
    """Return the candidates in the retriever's order; in training some are shuffled by seed."""
    candidates = list(case["candidates"])
    key = f"{config.seed} {case['split']} {case['position']} {case['user_id']}".encode()
    lot = random.Random(int.from_bytes(blake2b(key, digest_size=8).digest()))
    if case["split"] != "train":  # serving keeps the order, so what is judged does
        return candidates
    if config.shuffle_candidates or lot.random() < config.shuffle_train_share:
        lot.shuffle(candidates)
    return candidates


def _candidates(
    names: Sequence[str], case: Row, now: datetime, config: PromptsConfig
) -> tuple[list[Candidate], datetime]:
    """Return the candidates as shown at `now`, and the end of the last day counted."""
    together = {pair["item_id"]: pair["days"] for pair in case.get("together") or []}
    shown, until = [], EPOCH
    for name in names:
        item = case["items"][name]
        numbers, end = facts_at(now, item, together.get(name, []))
        facts = item_facts({**item, **numbers}, config)
        shown.append(Candidate(title=shown_title(item, config), topic=item["topic"], facts=facts))
        until = max(until, end)
    return shown, until


def _interactions(history: Sequence[Row], case: Row, config: PromptsConfig) -> list[Interaction]:
    """Return one interaction per distinct item of `history`, by the time of its first event."""
    by_item: dict[int, list[Row]] = {}
    for event in history:
        by_item.setdefault(event["position"], []).append(event)
    interactions = []
    for position, events in by_item.items():
        item = case["items"][case["item_ids"][position]]
        interactions.append(
            Interaction(
                title=shown_title(item, config),
                topic=item["topic"],
                actions=[event["action"] for event in events],
                timestamp=events[0]["timestamp"],
            )
        )
    return interactions


def _profile(case: Row, config: PromptsConfig) -> dict[str, Any]:
    """Return the user's profile without interests that name an item by its title."""
    interests = case["profile"].get("interests")
    if not interests:
        return case["profile"]
    # It may be the label's. Other items' are left out as well, or their absence would tell.
    titles = {title for item in case["items"].values() for title in both_titles(item, config)}
    kept = [
        interest
        for interest in interests
        if not any(title == interest or (" " in title and title in interest) for title in titles)
    ]
    return {**case["profile"], "interests": kept}


def both_titles(item: Row, settings: PromptSettings) -> tuple[str, str]:
    """Return the title of a catalogue row, whole and as prompts show it."""
    return item["title"], shown_title(item, settings)


def _groups(profile: Mapping[str, Any]) -> list[str]:
    """Return the groups of users that `profile` belongs to, by which results are compared."""
    known = {name: value for name, value in profile.items() if value is not None}
    groups = [f"{name.replace('_', ' ')} {known[name]}" for name in ("gender", "city_tier") if name in known]
    if "age" in known:
        decade = known["age"] // 10 * 10
        groups.append(f"age {decade} to {decade + 9}")
    return groups


def _age_days(created_at: datetime | None, now: datetime) -> float | None:
    """Return an item's age in days at `now`, 0 if it was created later."""
    return None if created_at is None else max(0.0, (now - created_at).total_seconds() / 86_400)


def _novelty(case: Row, candidates: Sequence[str], statistics: CatalogueStatistics) -> list[float]:
    """Return each candidate's self-information in the train part, without the prompt's own labels."""
    own = case["split"] == "train"
    labels = {case["item_ids"][p] for p in case["label_positions"]} if own else set()
    return [
        self_information(
            case["items"][item]["train_count"] - (item in labels),
            statistics.interactions - len(labels),
            statistics.items,
        )
        for item in candidates
    ]
