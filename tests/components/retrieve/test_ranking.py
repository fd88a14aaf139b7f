import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranx import Qrels, Run, evaluate

from components.retrieve.interactions import Histories
from components.retrieve.ranking import RankedLists, Scorer, contains, ndcg, recall, top_unseen


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def full_sort(scores: np.ndarray, seen: list[list[int]], depth: int) -> list[list[int]]:
    """The plain way: sort every item by (-score, index), then leave the seen ones out."""
    found = []
    for row, row_seen in zip(scores, seen, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        found.append([i for i in order if i not in row_seen][:depth])
    return found


def lists(ranked: RankedLists) -> list[list[int]]:
    return [[int(i) for i in row if i >= 0] for row in ranked.items]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_top_unseen_equals_a_full_stable_sort(data: st.DataObject) -> None:
    items = data.draw(st.integers(1, 12))
    rows = data.draw(st.integers(1, 5))
    # Few distinct values: ties are the rule.
    values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=items, max_size=items)
    scores = np.array([data.draw(values) for _ in range(rows)], dtype=np.float32)
    seen = [data.draw(st.lists(st.integers(0, items - 1), unique=True)) for _ in range(rows)]
    depth = data.draw(st.integers(1, 14))
    ranked = top_unseen(torch.from_numpy(scores.copy()), histories(*seen), depth)
    assert ranked.items.shape == ranked.scores.shape == (rows, depth)
    assert lists(ranked) == full_sort(scores, seen, depth)
    for row in range(rows):
        real = ranked.items[row] >= 0
        assert np.array_equal(ranked.scores[row][real], scores[row][ranked.items[row][real]])


class _Fixed(Scorer):
    def __init__(self, table: np.ndarray) -> None:
        self.table, self.num_items = table, table.shape[1]

    def scores(self, histories: Histories) -> torch.Tensor:
        return torch.from_numpy(self.table[histories.start].copy())


def test_blocks_do_not_change_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(0, 5, (23, 40)).astype(np.float32)
    asked = Histories(np.arange(23) % 40, np.arange(23), np.arange(23) + 1)
    whole = _Fixed(table).rank(asked, 7)
    monkeypatch.setattr("components.retrieve.ranking.BLOCK_BYTES", 4 * 40 * 5)  # five users a block
    monkeypatch.setattr("components.retrieve.ranking.BLOCK_ROWS", 1)
    assert np.array_equal(_Fixed(table).rank(asked, 7).items, whole.items)


def test_nobody_to_answer_gives_no_lists() -> None:
    nobody = Histories(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
    assert _Fixed(np.zeros((1, 3), np.float32)).rank(nobody, 2).items.shape == (0, 2)


@pytest.mark.parametrize(
    ("ranked", "labels", "k", "expected_recall", "expected_ndcg"),
    [
        pytest.param([4, 1, 2], [4], 2, 1.0, 1.0, id="first"),
        pytest.param([4, 1, 2], [1], 2, 1.0, 1 / np.log2(3), id="second"),
        pytest.param([4, 1, 2], [2], 2, 0.0, 0.0, id="below the cut"),
        pytest.param([4, 1, -1], [9], 3, 0.0, 0.0, id="never listed"),
        pytest.param([4, 1, 2], [4, 2], 3, 1.0, (1 + 1 / 2) / (1 + 1 / np.log2(3)), id="two labels"),
        pytest.param([4, 1, 2], [4, 7, 8], 2, 1 / 3, 1 / (1 + 1 / np.log2(3)), id="more labels than k"),
        pytest.param([4], [4], 10, 1.0, 1.0, id="list shorter than k"),
    ],
)
def test_metrics_by_hand(
    ranked: list[int], labels: list[int], k: int, expected_recall: float, expected_ndcg: float
) -> None:
    found = contains(histories(labels), np.array([ranked]))
    count = np.array([len(labels)])
    assert recall(found, count, k) == pytest.approx([expected_recall])
    assert ndcg(found, count, k) == pytest.approx([expected_ndcg])


@pytest.mark.slow
def test_metrics_equal_ranx() -> None:
    generator = np.random.default_rng(3)
    items = np.stack([generator.permutation(50)[:20] for _ in range(40)])
    labels = [generator.choice(50, size=generator.integers(1, 4), replace=False).tolist() for _ in range(40)]
    found = contains(histories(*labels), items)
    counts = np.array([len(row) for row in labels])
    truth = Qrels({f"q{i}": {f"d{item}": 1 for item in row} for i, row in enumerate(labels)})
    run = Run({f"q{i}": {f"d{item}": 20.0 - r for r, item in enumerate(row)} for i, row in enumerate(items)})
    for k in (5, 10):
        theirs = evaluate(truth, run, [f"recall@{k}", f"ndcg@{k}"])
        assert recall(found, counts, k).mean() == pytest.approx(theirs[f"recall@{k}"])
        assert ndcg(found, counts, k).mean() == pytest.approx(theirs[f"ndcg@{k}"])
