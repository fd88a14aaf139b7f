import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest

from components.retrieve.interactions import Histories, Interactions


def of(*lengths: int) -> Histories:
    ends = np.cumsum(lengths)
    return Histories(np.arange(ends[-1]), ends - lengths, ends)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        pytest.param(5, [[0, 1, 2, 3, 4]], id="fits"),
        pytest.param(3, [[2, 3, 4], [0, 1, 2]], id="two windows share one item"),
        pytest.param(4, [[1, 2, 3, 4], [0, 1]], id="the rest is short"),
        pytest.param(2, [[3, 4], [2, 3], [1, 2], [0, 1]], id="one transition each"),
    ],
)
def test_windows_hold_each_transition_once(length: int, expected: list[list[int]]) -> None:
    assert [row.tolist() for row in of(5).windows(length)] == expected


@pytest.mark.parametrize("length", [2, 3, 7, 50])
def test_windows_lose_no_transition(length: int) -> None:
    histories = of(1, 2, 9, 30, 4)
    pairs = sorted((a, b) for row in histories for a, b in itertools.pairwise(row))
    cut = sorted((a, b) for row in histories.windows(length) for a, b in itertools.pairwise(row))
    assert cut == pairs


def test_nothing_to_cut_gives_no_windows() -> None:
    assert len(of(1, 1).windows(3)) == 0
    assert len(of(1, 1).prefixes(3)) == 0


def test_prefixes_end_with_every_item_but_the_first() -> None:
    histories = Histories(np.array([9, 0, 1, 2, 3, 7, 8]), np.array([5, 4, 1]), np.array([7, 5, 5]))
    assert [row.tolist() for row in histories.prefixes(3)] == [[7, 8], [0, 1], [0, 1, 2], [1, 2, 3]]


def test_a_window_of_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="two items"):
        of(3).windows(1)


def test_flat_names_each_items_row() -> None:
    rows, items = Histories(np.array([7, 8, 9]), np.array([1, 0, 2]), np.array([3, 0, 3])).flat()
    assert rows.tolist() == [0, 0, 2]
    assert items.tolist() == [8, 9, 9]


def test_every_train_item_but_the_first_is_a_prompt() -> None:
    items, lengths = np.arange(12), np.array([6, 3, 3])
    data = Interactions(
        user_ids=["a", "b", "c"],
        item_ids=[str(item) for item in items],
        items=items,
        offsets=np.array([0, 6, 9, 12]),
        train_end=np.array([4, 1, 0]),
        valid_end=lengths - 1,
        times=items,
        tags=Histories.from_lengths(items, np.ones(12, np.int64)),
        brands=items,
        categories=items,
        created=items,
        texts=pa.nulls(12, pa.string()),
    )
    found = data.train_queries("all")
    assert found.users.tolist() == [0, 0, 0]
    assert found.position.tolist() == [1, 2, 3]
    assert [row.tolist() for row in found.histories] == [[0], [0, 1], [0, 1, 2]]
    assert [row.tolist() for row in found.labels] == [[1], [2], [3]]
    for latest, positions in ((1, [3]), (2, [2, 3]), (9, [1, 2, 3])):
        part = data.train_queries(latest)
        assert part.users.tolist() == [0] * len(positions)
        assert part.position.tolist() == positions
        assert [row.tolist() for row in part.histories] == [[0, 1, 2][:p] for p in positions]
        assert [row.tolist() for row in part.labels] == [[p] for p in positions]


@pytest.mark.parametrize(
    ("most", "strong", "valid", "test"),
    [
        pytest.param(0, None, [[1], [7, 8, 9]], [[2, 3, 4]], id="the whole window"),
        pytest.param(2, None, [[1], [7, 8]], [[2, 3]], id="as many as an answer names"),
        pytest.param(1, [1, 1, 0, 1, 1, 0, 0, 0, 0, 0], [[1], [7]], [[3]], id="strong ones, else the first"),
    ],
)
def test_labels_are_those_of_the_prompts(most, strong, valid, test) -> None:
    fields = dict.fromkeys(field.name for field in dataclasses.fields(Interactions))
    fields |= {"items": np.arange(10), "offsets": np.array([0, 5, 10]), "most_labels": most}
    fields |= {"times": fields["items"], "first_user": 0}
    fields |= {"train_end": np.array([1, 2]), "valid_end": np.array([2, 5])}
    fields["is_strong"] = None if strong is None else np.array(strong, bool)
    data = Interactions(**fields)  # type: ignore[arg-type]
    assert [row.tolist() for row in data.queries("valid").labels] == valid
    assert [row.tolist() for row in data.queries("test").labels] == test
    assert data.queries("test").position.tolist() == [2]
