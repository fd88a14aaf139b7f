import numpy as np
import pytest

from components.retrieve.config import RetrieveConfig
from components.retrieve.figures import SplitFigures, ceilings, first_label_recall
from components.retrieve.interactions import Histories, Queries
from components.retrieve.ranking import RankedLists
from components.retrieve.report import (
    RetrieveReport,
    gap_flags,
    page,
)


def test_only_first_labels_after_a_history_are_compared() -> None:
    """Test may ask for several labels, and of users without a history: that is no gap."""
    items, ends = np.array([1, 2, 3, 4, 5]), np.array([4, 5])
    labels, nothing = Histories(items, np.array([1, 4]), ends), np.array([0, 4])
    histories, users = Histories(items, nothing, np.array([1, 4])), np.arange(2)
    queries = Queries(users, users, histories, labels, times=users, segments=users)
    ranked = RankedLists(np.array([[2, 9], [9, 5]]), np.zeros((2, 2), np.float32))
    assert ceilings(ranked.hits(queries), queries.labels.lengths, (1,)) == {1: pytest.approx(1 / 6)}
    assert first_label_recall(ranked, queries, (1,)) == {1: 1.0}


def _gap(train: float, test: float, users: int, prompts: int = 1) -> list[str]:
    """Return the warnings of `users` with so many train `prompts` each."""
    report = RetrieveReport(RetrieveConfig(ceiling_gap=0.3), num_items=100)
    for split, recall in (("train", train), ("test", test)):
        count = users * prompts if split == "train" else users
        report.splits[split] = SplitFigures(users=count, first_labels={10: recall})
    return gap_flags(report, users)


@pytest.mark.parametrize(
    ("train", "test", "users", "word"),
    [
        pytest.param(0.40, 0.10, 1000, "leaked", id="train far above"),
        pytest.param(0.10, 0.40, 1000, "harder", id="train far below"),
        pytest.param(0.12, 0.10, 1000, None, id="within the allowed share"),
        # Three standard errors: 3 * sqrt((0.4 * 0.6 + 0.2 * 0.8) / 20) = 0.42.
        pytest.param(0.40, 0.20, 20, None, id="within chance"),
    ],
)
def test_a_gap_between_train_and_test_is_flagged(train, test, users, word) -> None:
    flags = _gap(train, test, users)
    assert [word in flag for flag in flags] == ([True] if word else [])


def test_several_prompts_of_a_user_are_no_more_certain_than_one() -> None:
    """0.43 is chance among 20 users; if their prompts were independent, it would be 0.27."""
    assert _gap(0.55, 0.20, 20, prompts=1000) == _gap(0.55, 0.20, 20) == []
    assert _gap(0.75, 0.20, 20, prompts=1000) == _gap(0.75, 0.20, 20) != []


def test_the_page_escapes_and_needs_no_network() -> None:
    report = RetrieveReport(RetrieveConfig(), num_items=100, models={"a<b": {}}, flags=["x < y"])
    text = page(report)
    assert "a&lt;b" in text
    assert "x &lt; y" in text
    assert "http" not in text
