import numpy as np
import pytest

from components.retrieve.candidates.lists import fuse, scores_of
from components.retrieve.ranking import RankedLists


def voters(*items: int, scores: tuple[float, ...] = ()) -> RankedLists:
    return RankedLists(np.array([items]), np.array([scores or [1.0] * len(items)], np.float32))


def test_fusion_by_hand() -> None:
    fused = fuse([voters(7, 3, 5), voters(3, 9, -1)], [0, 0], depth=5)
    # 3: 1/62 + 1/61; 7: 1/61; 9: 1/62; 5: 1/63; then nothing more is named.
    assert fused.items.tolist() == [[3, 7, 9, 5, -1]]
    assert fused.scores[0, :4] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])


def test_fusion_breaks_ties_by_item_index() -> None:
    assert fuse([voters(8, 2), voters(2, 8)], [0, 0], depth=2).items.tolist() == [[2, 8]]


def test_what_only_fills_a_list_has_no_vote() -> None:
    first = voters(7, 5, 1, scores=(2.0, 0.5, 0.4))
    second = voters(9, 5, 1, scores=(3.0, 0.1, 0.1))
    fused = fuse([first, second], [1.0, 1.0], depth=4)
    assert fused.items.tolist() == [[7, 9, 5, 1]]  # 7 and 9 tie at 1/61; then the first list goes on
    assert fused.scores[0].tolist() == pytest.approx([1 / 61, 1 / 61, 0, 0])


def test_items_that_a_list_lacks_have_its_last_score() -> None:
    lists = RankedLists(np.array([[7, 5, -1], [-1, -1, -1]]), np.array([[2.0, 0.5, -np.inf], [-np.inf] * 3]))
    found = scores_of(lists, np.array([[5, 9, 7, -1], [1, 2, 3, -1]]))
    assert found.tolist() == [[0.5, 0.5, 2.0, 0.5], [0.0] * 4]
