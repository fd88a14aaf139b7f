"""A small world that evaluate can read: 24 users, 40 items, two conventional models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.shared.prompting import render as prompt
from data_contracts.tables import CATALOGUE, PROMPTS, RANKINGS

USERS, ITEMS, CANDIDATES = 24, 40, 12
TOPICS = ("cooking", "hiking", "jazz", "chess")


@dataclass(frozen=True)
class World:
    prompts: Path
    catalogue: Path
    rankings: Path
    rows: list[dict[str, Any]]


def item(number: int) -> str:
    return f"i{number:02d}"


def prompt_row(index: int, candidates: list[str], labels: list[str]) -> dict[str, Any]:
    rendered = prompt.messages(
        prompt.PromptInput(
            profile={"age": 30 + index},
            history=(),
            interests=[("cooking", 3)],
            candidates=[prompt.Candidate(title=f"Title <{c}>", topic="cooking") for c in candidates],
            now=None,  # type: ignore[arg-type]  # nothing in the history needs it
            answer_length=3,
        )
    )
    numbers = [candidates.index(label) + 1 for label in labels if label in candidates]
    return {
        "user_id": f"u{index:02d}",
        "split": "test",
        "position": 4 + index % 7,
        "messages": rendered,
        "labels": numbers,
        "label_items": labels,
        "label_weights": [1.0 for _ in labels],
        "answer_length": 3,
        "candidates": candidates,
        "scores": [-float(n) for n in range(len(candidates))],
        "titles": [f"Title <{c}>" for c in candidates],
        "history": [],
        "tags": [["cooking"] for _ in candidates],
        "novelty": [1.0 for _ in candidates],
        "seen": [False for _ in candidates],
        "age_days": [None for _ in candidates],
        "days_since_last": float(index % 4 > 0),
        "groups": [],
        "completion": None,
    }


def write_prompts(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), folder / "test.parquet")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Labels lie at random places of the candidate lists; one in four is not among them."""
    root = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(7)
    rows, ranked = [], []
    for user in range(USERS):
        order = [item(i) for i in generator.permutation(ITEMS)]
        label = order[-1] if user % 4 == 0 else order[int(generator.integers(CANDIDATES))]
        rows.append(prompt_row(user, order[:CANDIDATES], [label]))
        key = {name: rows[-1][name] for name in ("user_id", "split", "position")}
        ranked.append({"model": "sasrec", "item_ids": order[:20], **key})
        ranked.append({"model": "popularity", "item_ids": [item(i) for i in range(20)], **key})
    write_prompts(root / "prompts", rows)
    for name in ("catalogue", "rankings"):
        (root / name).mkdir()
    catalogue = [
        {
            "item_id": item(i),
            "title": f"Title <{item(i)}>",
            "topic": TOPICS[i % 4],
            "tags": [TOPICS[i % 4], f"sub{i % 3}"],
            "train_count": ITEMS - i,
        }
        for i in range(ITEMS)
    ]
    pq.write_table(pa.Table.from_pylist(catalogue, schema=CATALOGUE), root / "catalogue" / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist(ranked, schema=RANKINGS), root / "rankings" / "part-0.parquet")
    (root / "rankings" / "_SUCCESS").touch()  # what Spark leaves beside the parts
    return World(root / "prompts", root / "catalogue", root / "rankings", rows)
