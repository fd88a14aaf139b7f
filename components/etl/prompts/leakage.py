"""Checks that no label shows in a prompt, nor in what its statistics and candidates were computed from.

Row checks are pure and compare a rendered prompt with its case; table checks compare whole tables.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from components.etl.prompts.rows import both_titles
from components.shared.errors import LeakageError
from components.shared.prompting.render import before_candidates
from components.shared.prompting.settings import PromptSettings

Row = Mapping[str, Any]
# A label that has one number in nearly all of many prompts is given away by its position.
GIVEAWAY_SHARE, GIVEAWAY_LEAST = 0.95, 30
SHORT_TITLE = 12  # a one-word title shorter than this may be any word of the prompt


def row_leak(case: Row, row: Row, history_positions: Sequence[int], settings: PromptSettings) -> str | None:
    """Return how `row` (a PROMPTS row made from `case`) gives a label away, or None.

    `history_positions` are the sequence positions of every item that its history and interests show.
    """
    for found in _row_leaks(case, row, history_positions, settings):
        return f"user {case['user_id']!r}, {case['split']} prompt at position {case['position']}: {found}"
    return None


def _row_leaks(
    case: Row, row: Row, history_positions: Sequence[int], settings: PromptSettings
) -> Iterator[str]:
    position, items = case["position"], case["item_ids"]
    windows = {"train": (0, case["train_end"]), "valid": (case["train_end"], case["valid_end"])}
    begin, end = windows.get(case["split"], (case["valid_end"], len(items)))
    if not all(begin <= p < end for p in (position, *case["label_positions"])):
        yield f"its label lies outside the {case['split']} positions [{begin}, {end})"
    late = [p for p in history_positions if p >= position]
    if late:
        yield f"its history shows {items[late[0]]!r} (position {late[0]}), the label or after it"
    label_time = next((e["timestamp"] for e in case["events"] if e["position"] == position), None)
    if label_time is not None and any(case["timestamps"][p] > label_time for p in history_positions):
        yield "its history shows an item met after the label"
    if label_time is not None and row["shown_until"] > label_time:
        yield f"it tells of {row['shown_until']:%Y-%m-%d %H:%M}, after the label"
    test_labels = set(items[case["valid_end"] :])
    if case["split"] != "test" and test_labels & set(row["label_items"]):
        yield "its label is a test label of the same user"
    if sorted(row["candidates"]) != sorted(case["candidates"]):
        yield "its candidates are not those that retrieval proposed (was the label added?)"
    yield from _text_leaks(case, row, history_positions, settings)


def _text_leaks(
    case: Row, row: Row, history_positions: Sequence[int], settings: PromptSettings
) -> Iterator[str]:
    """Yield a finding per label id or title (whole or shortened) before the candidates."""
    texts = [before_candidates(message["content"]) for message in row["messages"]]
    own = [case["items"].get(case["item_ids"][p]) for p in history_positions]
    shown = [text for item in own if item for text in (*both_titles(item, settings), item["item_id"])]
    topics = {name for item in case["items"].values() for name in (item["topic"], *item["tags"])}
    # What the history rightly shows is taken out first: another item may bear the label's title.
    for phrase in sorted({*shown, *topics} - {""}, key=len, reverse=True):
        texts = [text.replace(phrase, " ") for text in texts]
    for label in row["label_items"]:
        item = case["items"].get(label)
        for title in both_titles(item, settings) if item else ():
            is_specific = title not in topics and (" " in title or len(title) >= SHORT_TITLE)
            if is_specific and any(_says(text, title) for text in texts):
                yield f"the label's title {title!r} appears in the text before the candidates"
        if not (label.isdigit() and len(label) < 5) and any(_says(text, label) for text in texts):
            yield f"the label's id {label!r} appears in the text before the candidates"


def _says(text: str, phrase: str) -> bool:
    return phrase in text and re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def position_leak(label_numbers: Sequence[int], candidates: int, shuffled: float = 0.0) -> str | None:
    """Return how the labels' 1-based numbers among `candidates` give them away, or None.

    Of the share `shuffled` of the lists the number says nothing.
    """
    if candidates < 2 or len(label_numbers) < GIVEAWAY_LEAST:
        return None
    number, count = Counter(label_numbers).most_common(1)[0]
    if count < GIVEAWAY_SHARE * (1 - shuffled) * len(label_numbers):
        return None
    return (
        f"the label is candidate number {number} in {count:,} of {len(label_numbers):,} train prompts; was "
        "it added to the list? Let retrieval alone propose candidates, or set shuffle_candidates"
    )


def check_folds(candidates: DataFrame) -> None:
    """Raise LeakageError if a training prompt's candidates come from a retriever that saw its label."""
    seen = candidates.where((F.col("split") == "train") & (F.col("fold") < 0)).select("user_id", "position")
    if row := seen.first():
        raise LeakageError(
            f"user {row.user_id!r}: the candidates of the training prompt at position {row.position} "
            "come from a retriever that trained on its label (fold -1); cross-fit the retriever by user folds"
        )


def check_train_counts(catalogue: DataFrame, sequences: DataFrame) -> None:
    """Raise LeakageError if an item's train_count exceeds its interactions within the train positions."""
    train = sequences.select(F.explode(F.slice("item_ids", F.lit(1), F.col("train_end"))).alias("item_id"))
    counted = train.groupBy("item_id").count()
    joined = catalogue.select("item_id", "train_count").join(counted, "item_id", "left")
    if row := joined.where(F.col("train_count") > F.coalesce("count", F.lit(0))).first():
        raise LeakageError(
            f"item {row.item_id!r}: train_count {row.train_count} exceeds its "
            f"{row['count'] or 0} interactions within the train positions; later events leaked in"
        )
