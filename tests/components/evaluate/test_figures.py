"""What the report's page says of a difference."""

import pytest

from components.evaluate.report.figures import outcome_of
from data_contracts.evaluation import Difference


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "outcome"),
    [
        pytest.param(0.01, 0.05, 0.02, "better", id="better"),
        pytest.param(-0.05, -0.01, 0.02, "worse", id="worse"),
        pytest.param(-0.01, 0.05, 0.02, "undecided", id="zero"),
        pytest.param(0.01, 0.05, 0.12, "undecided", id="one-of-many-comparisons"),
        pytest.param(-0.05, -0.01, 0.12, "undecided", id="one-of-many-losses"),
    ],
)
def test_a_difference_is_decided_by_its_interval_and_its_corrected_p(low, high, p_holm, outcome):
    found = Difference(
        model="grpo",
        baseline="sft",
        metric="ndcg@10",
        mean=(low + high) / 2,
        low=low,
        high=high,
        p_holm=p_holm,
    )
    assert outcome_of(found, 0.95) == outcome
