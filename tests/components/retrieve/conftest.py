"""Small tables in the contract's own schemas, and one torch thread: tiny networks gain nothing by two."""

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.retrieve.models import factory
from data_contracts.tables import CATALOGUE, EXPOSURES, SEQUENCES, USERS


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def random_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the sentence encoder: unit vectors that depend on the text alone."""

    def encode(texts, *_):
        vectors = [np.random.default_rng(list(str(text).encode())).normal(size=8) for text in texts]
        return np.array([v / np.linalg.norm(v) for v in vectors], np.float32)

    monkeypatch.setattr(factory, "encode", encode)


Sequences = dict[str, list[str]]
START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
WriteTables = Callable[..., dict[str, Path]]


@pytest.fixture
def write_tables(tmp_path: Path) -> WriteTables:
    """Write users' sequences (leave-one-out unless `ends` says otherwise) and their catalogue."""

    def write(
        sequences: Sequences,
        catalogue: list[str] | None = None,
        ends: dict[str, tuple[int, int]] | None = None,
        name: str = "tables",
        tags: dict[str, list[str]] | None = None,
        profiles: list[dict] | None = None,
        shown: list[tuple[str, float, list[str]]] | None = None,
        created: dict[str, float] | None = None,
        brands: dict[str, str] | None = None,
        topics: dict[str, str] | None = None,
    ) -> dict[str, Path]:
        """Item i of a user comes on day i; `shown` is (user, day, items), `created` item -> day."""

        def day(number: float) -> datetime.datetime:
            return START + datetime.timedelta(days=number)

        folder = tmp_path / name
        rows = []
        for user, items in sequences.items():
            train_end, valid_end = (ends or {}).get(user, (len(items) - 2, len(items) - 1))
            rows.append(
                {
                    "user_id": user,
                    "item_ids": items,
                    "timestamps": [day(i) for i in range(len(items))],
                    "engagement": [1.0] * len(items),
                    "train_end": train_end,
                    "valid_end": valid_end,
                    "events": [],
                }
            )
        known = catalogue if catalogue is not None else sorted({i for s in sequences.values() for i in s})
        items = [
            {
                "item_id": item,
                "title": item,
                "topic": (topics or {}).get(item, ""),
                "tags": (tags or {}).get(item, []),
                "brand": (brands or {}).get(item),
                "created_at": day(created[item]) if created and item in created else None,
                "train_count": 0,
            }
            for item in known
        ]
        people = profiles or [{"user_id": user} for user in sequences]
        lists = [{"user_id": u, "timestamp": day(d), "item_ids": found} for u, d, found in shown or []]
        for table, values, schema in (
            ("sequences", rows, SEQUENCES),
            ("catalogue", items, CATALOGUE),
            ("users", people, USERS),
            ("exposures", lists, EXPOSURES),
        ):
            (folder / table).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(values, schema=schema), folder / table / "part-0.parquet")
        return {name: folder / name for name in ("sequences", "catalogue", "users", "exposures")}

    return write


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, Path]:
    names = {
        "candidates": "candidates",
        "rankings": "rankings",
        "served": "served",
        "report_html": "report.html",
    }
    return {key: tmp_path / name for key, name in names.items()}


def cycles(users: int, items: int, length: int, seed: int = 0) -> Sequences:
    """Users who walk round a ring of items, one step at a time with few jumps: easy for a sequence model."""
    generator = np.random.default_rng(seed)
    sequences = {}
    for user in range(users):
        steps = generator.choice([1, 2], size=length, p=[0.9, 0.1])
        path = (generator.integers(items) + np.cumsum(steps)) % items
        sequences[f"u{user:04d}"] = list(dict.fromkeys(f"i{item:04d}" for item in path))
    return sequences


@pytest.fixture
def ring() -> Sequences:
    return cycles(users=80, items=60, length=10)
