"""Typed rows of every table that crosses a step boundary, as pyarrow schemas.

Times are UTC microseconds. A table is a folder of Parquet files (or one file). `RAW` tables are brought by
the user; the others pass between steps.
"""

from typing import Literal, get_args

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")

Action = Literal["view", "click", "like", "save", "comment", "share", "follow", "purchase"]
ACTIONS: tuple[str, ...] = get_args(Action)
"""What a user can do with an item, weakest first: the values of `events.action`."""

SPLITS = ("train", "valid", "test")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


USERS = pa.schema(
    [
        _required("user_id", pa.string()),
        pa.field("age", pa.int32()),
        pa.field("gender", pa.string()),
        pa.field("city_tier", pa.string()),
        pa.field("interests", pa.list_(pa.string())),
    ]
)
PROFILE = tuple(name for name in USERS.names if name != "user_id")
"""What a prompt says of a user, in this order."""

ITEMS = pa.schema(
    [
        _required("item_id", pa.string()),
        pa.field("title", pa.string()),  # may be null: some catalogues have none
        pa.field("tags", pa.list_(pa.string())),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("brand", pa.string()),
        pa.field("description", pa.string()),
        pa.field("created_at", TIMESTAMP),
    ]
)

EVENTS = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("item_id", pa.string()),
        _required("action", pa.string()),
        pa.field("dwell_seconds", pa.float64()),
        _required("timestamp", TIMESTAMP),
        # Breaks ties in time; without it the order of the log does (names of the files, then their rows).
        pa.field("ordinal", pa.int64()),
    ]
)

EXPOSURES = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("timestamp", TIMESTAMP),
        _required("item_ids", pa.list_(pa.string())),  # what the online system showed, in order
        # The probability with which it showed each of them at its place: for off-policy estimates.
        pa.field("propensities", pa.list_(pa.float64())),
    ]
)

RAW = {"users": USERS, "items": ITEMS, "events": EVENTS, "exposures": EXPOSURES}

REQUIRED_COLUMNS = {
    name: tuple(field.name for field in schema if not field.nullable) for name, schema in RAW.items()
} | {"items": ("item_id", "title")}
"""Columns that a raw table must have (their values may be null only where the schema says so)."""

EVENT = pa.struct(
    [
        _required("position", pa.int32()),  # index of the event's item in `item_ids`
        _required("action", pa.string()),
        _required("timestamp", TIMESTAMP),
        pa.field("dwell_seconds", pa.float64()),
    ]
)

SEQUENCES = pa.schema(
    [
        _required("user_id", pa.string()),
        # Distinct items in the order of the user's first event on each; length >= min_interactions.
        _required("item_ids", pa.list_(pa.string())),
        _required("timestamps", pa.list_(TIMESTAMP)),  # time of that first event
        _required("engagement", pa.list_(pa.float64())),  # summed action weights; label strength
        # Positions [0, train_end) train, [train_end, valid_end) validate, [valid_end, n) test.
        _required("train_end", pa.int32()),
        _required("valid_end", pa.int32()),
        # Every event in time order: what history may be built from (strictly before the label).
        _required("events", pa.list_(EVENT)),
    ]
)

CATALOGUE = pa.schema(
    [
        _required("item_id", pa.string()),
        _required("title", pa.string()),  # cleaned, never empty (falls back to brand/categories/id)
        _required("topic", pa.string()),  # the one tag or leaf category that history is grouped by
        _required("tags", pa.list_(pa.string())),  # tags + categories, unique: for ILAD and content
        pa.field("brand", pa.string()),
        pa.field("description", pa.string()),  # cleaned, its beginning
        pa.field("created_at", TIMESTAMP),
        _required("train_count", pa.int64()),  # interactions within the train part, never later
    ]
)

CANDIDATES = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("split", pa.string()),
        _required("position", pa.int32()),  # the label's position in `sequences.item_ids`
        _required("item_ids", pa.list_(pa.string())),  # best first, seen items excluded
        _required("scores", pa.list_(pa.float32())),
        # Of `retrieve.blend.learner: teacher`, by models that never saw the user; null for valid and test.
        pa.field("teacher", pa.list_(pa.float32())),
        # The user fold held out of the retriever that made this row; -1: it saw every user's train part.
        _required("fold", pa.int32()),
    ]
)

RANKINGS = pa.schema(
    [
        _required("model", pa.string()),  # "popularity", "sasrec" …
        _required("user_id", pa.string()),
        _required("split", pa.string()),
        _required("position", pa.int32()),
        _required("item_ids", pa.list_(pa.string())),  # full catalogue, seen excluded, top `ranking_depth`
    ]
)

MESSAGE = pa.struct([_required("role", pa.string()), _required("content", pa.string())])

PROMPTS = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("split", pa.string()),
        _required("position", pa.int32()),  # the first label's position in `sequences.item_ids`
        _required("messages", pa.list_(MESSAGE)),
        # Candidate numbers (1-based) of the labels in label order; empty if none is among the candidates.
        _required("labels", pa.list_(pa.int32())),
        _required("label_items", pa.list_(pa.string())),  # item ids of all labels, also those not retrieved
        _required("label_weights", pa.list_(pa.float64())),  # engagement with each of `label_items`
        _required("answer_length", pa.int32()),  # K, how many numbers the answer must name
        _required("candidates", pa.list_(pa.string())),  # item ids in prompt order
        _required("scores", pa.list_(pa.float32())),  # the retriever's, of each candidate
        pa.field("teacher", pa.list_(pa.float32())),  # of train candidates if `prompts.target` is "teacher"
        _required("titles", pa.list_(pa.string())),  # of each candidate, as the prompt shows them
        _required("history", pa.list_(pa.string())),  # titles that the prompt shows, oldest first
        _required("tags", pa.list_(pa.list_(pa.string()))),  # of each candidate
        _required("novelty", pa.list_(pa.float64())),  # -log2 popularity share of each candidate
        _required("seen", pa.list_(pa.bool_())),  # whether the history holds the candidate
        _required("age_days", pa.list_(pa.float64())),  # of each candidate at the label's time, or null
        pa.field("days_since_last", pa.float64()),  # from the user's event before the label to it
        _required("groups", pa.list_(pa.string())),  # of the profile: "gender female", "age 30 to 39" …
        # The answer that SFT teaches; null where no label is a candidate and nobody
        # teaches, and for valid and test.
        pa.field("completion", pa.string()),
    ]
)

RECOMMENDATIONS = pa.schema(
    [
        _required("user_id", pa.string()),
        _required("item_ids", pa.list_(pa.string())),  # candidates, best first
        _required("scores", pa.list_(pa.float64())),  # of these; empty if the answers were generated
        _required("rationale", pa.string()),  # "" where the answer is not valid
        _required("valid", pa.bool_()),  # else the items have the candidates' order
        _required("unknown_items", pa.int64()),  # of the history, which the model's catalogue lacks
        pa.field("fault", pa.string()),  # why the user's data were left out; null: they were not
    ]
)

QUARANTINE = pa.schema(
    [
        _required("table", pa.string()),
        _required("reason", pa.string()),
        _required("row", pa.string()),  # the row as JSON
    ]
)
