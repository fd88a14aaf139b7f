import dataclasses

import numpy as np
import pyarrow.parquet as pq

from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import NO_SEGMENT, Histories, Queries
from components.retrieve.job import run
from components.retrieve.models.popularity import Popularity, SegmentPopularity, item_counts
from components.retrieve.tables import load


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def test_popularity_orders_by_count_then_index() -> None:
    popularity = Popularity(item_counts(histories([2, 0], [2, 3], [3]), 5))
    assert popularity.rank(histories([4], [2]), 5).items.tolist() == [[2, 3, 0, 1, -1], [3, 0, 1, 4, -1]]


def test_a_segment_leans_on_everybody_by_the_prior() -> None:
    # Two users of segment 0 met item 0, four of segment 1 item 1 and one of them item 2.
    rows = [[0], [0], [1], [1], [1], [1, 2]]
    ends = np.cumsum([len(r) for r in rows])
    train = Histories(np.array([i for r in rows for i in r]), ends - [len(r) for r in rows], ends)
    segments = np.array([0, 0, 1, 1, 1, 1, 0, 1, 2, NO_SEGMENT])
    nothing = Histories(np.zeros(1, np.int64), np.zeros(4, int), np.zeros(4, int))
    queries = Queries.of_requests(nothing, np.zeros(4, int), segments[6:])
    small, large = (SegmentPopularity(train, segments[:6], 4, prior) for prior in (1.0, 100.0))
    assert small.recommend(queries, 3).items.tolist() == [[0, 1, 2], [1, 2, 0], [1, 0, 2], [1, 0, 2]]
    assert large.recommend(queries, 3).items.tolist() == [[1, 0, 2]] * 4
    expected = np.log1p([[2 + 2 / 7, 4 / 7, 1 / 7]])  # counts, and a seventh of everybody's seven
    np.testing.assert_allclose(small.recommend(queries, 3).scores[:1], expected, rtol=1e-6)
    assert small.recommend(queries, 4).scores.tolist()[0][3] == 0.0  # of no interaction


def test_a_user_without_history_gets_what_is_popular_among_their_like(write_tables, outputs) -> None:
    sequences = {f"f{i}": ["p", "q", "r", "s"] for i in range(4)} | {
        f"m{i}": ["t", "u", "v", "w"] for i in range(5)
    }
    sequences |= {"fnew": ["p"], "mnew": ["t"]}
    ends = dict.fromkeys(sequences, (4, 4)) | {"fnew": (0, 0), "mnew": (0, 0)}
    profiles = [{"user_id": user, "gender": user[0]} for user in sequences]
    config = RetrieveConfig(models=("popularity",), candidates_from="item_to_item", num_candidates=4)
    inputs = write_tables(sequences, ends=ends, profiles=profiles)
    report = run(config, **inputs, **outputs)
    rows = {r["user_id"]: r["item_ids"] for r in pq.read_table(outputs["candidates"]).to_pylist()}
    assert set(rows["fnew"]) == set("pqrs")
    assert set(rows["mnew"]) == set("tuvw")
    assert report.splits["test"].cold == 2
    alike = dataclasses.replace(config, segments=())
    run(alike, **inputs, **outputs)
    rows = {r["user_id"]: r["item_ids"] for r in pq.read_table(outputs["candidates"]).to_pylist()}
    assert rows["fnew"] == rows["mnew"]
    assert load(inputs["sequences"], inputs["catalogue"]).num_items == 8
