import math

import numpy as np
import pytest
import torch

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ContentConfig
from components.retrieve.models.content import Content, tag_vectors
from components.retrieve.tables import load


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def test_cosines_by_hand() -> None:
    # Item 0 has tags {a, b}, 1 {a}, 2 {b}, 3 none; each tag stands on 2 of 4 items: equal weights.
    tags = histories([0, 1], [0], [1], [])
    model = Content(histories([2, 1], [1]), tag_vectors(tags, 4), ContentConfig(last=2, decay=0.5))
    scores = model.scores(histories([1], [2, 1], [3], []))
    popular = np.array([0, 2, 1, 0]) / 3 * 1e-3
    half = 1 / math.sqrt(2)
    assert scores[0].numpy() == pytest.approx(np.array([half, 1, 0, 0]) + popular)
    assert scores[1].numpy() == pytest.approx(np.array([1.5 * half, 1, 0.5, 0]) + popular)
    assert scores[2].numpy() == pytest.approx(popular)  # no tags: popularity alone
    assert scores[3].numpy() == pytest.approx(popular)


def test_dense_vectors_score_as_sparse_ones() -> None:
    generator = np.random.default_rng(0)
    tags = histories(*(generator.choice(9, 3, replace=False).tolist() for _ in range(20)))
    train = histories(*(generator.choice(20, 5, replace=False).tolist() for _ in range(8)))
    sparse = tag_vectors(tags, 20)
    asked = histories([1, 2], [3], [], [4, 5, 6])
    first, second = (Content(train, v, ContentConfig()) for v in (sparse, sparse.to_dense()))
    torch.testing.assert_close(first.scores(asked), second.scores(asked))


def test_a_rare_tag_weighs_more() -> None:
    # Tag 0 stands on every item, tag 1 on items 0 and 1 only: item 1 is nearer to 0 than 2 is.
    vectors = tag_vectors(histories([0, 1], [0, 1], [0], [0]), 4)
    model = Content(histories([0]), vectors, ContentConfig())
    assert model.rank(histories([0]), 3).items.tolist() == [[1, 2, 3]]


def test_a_catalogue_without_tags_falls_back_to_popularity() -> None:
    model = Content(histories([2, 1], [1]), tag_vectors(histories([], [], []), 3), ContentConfig())
    assert model.rank(histories([0]), 2).items.tolist() == [[1, 2]]


def test_tags_are_read_once_each_in_the_order_of_items(write_tables) -> None:
    tags = {"x": ["b", "a", "b"], "z": ["c"]}
    inputs = write_tables({"u": ["z", "y", "x"]}, tags=tags)
    data = load(inputs["sequences"], inputs["catalogue"])
    assert [row.tolist() for row in data.tags] == [[0, 1], [], [2]]
