"""Cron: five fields of people in the six of Kubeflow Pipelines."""

from datetime import UTC, datetime

import pytest

from components.shared.errors import ConfigError
from pipelines.cluster import crons


@pytest.mark.parametrize(
    ("five", "six"),
    [
        pytest.param("0 3 * * *", "0 0 3 * * *", id="every night"),
        pytest.param("*/15 * * * *", "0 */15 * * * *", id="a step of all"),
        pytest.param("5/20 0-6/2 * * *", "0 5,25,45 0,2,4,6 * * *", id="steps of others"),
        pytest.param("30 4 1,15 * *", "0 30 4 1,15 * *", id="days of the month"),
        pytest.param("0 3 * jan-mar *", "0 0 3 * 1,2,3 *", id="names of months"),
        pytest.param("0 3 * * MON-fri", "0 0 3 * * 1,2,3,4,5", id="names of days"),
        pytest.param("0 3 * * 7", "0 0 3 * * 0", id="Sunday as 7"),
        pytest.param("0 3 * * 5-7", "0 0 3 * * 0,5,6", id="to Sunday as 7"),
        pytest.param("0 3 13 * 5", "0 0 3 13 * 5", id="either day, as in both programs"),
        pytest.param("  0   3 * *  * ", "0 0 3 * * *", id="spaces"),
    ],
)
def test_five_fields_become_six_of_the_same_meaning(five: str, six: str) -> None:
    assert crons.translate(five) == six


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        pytest.param("0 0 3 * * *", "has 6 fields", id="six"),
        pytest.param("@daily", "has 1 fields", id="a word"),
        pytest.param("", "has 0 fields", id="nothing"),
        pytest.param("60 3 * * *", "cannot read the field minute", id="minute 60"),
        pytest.param("0 3 * * fri-mon", "cannot read the field day-of-week", id="backwards"),
        pytest.param("*/0 * * * *", "cannot read the field minute", id="step 0"),
        pytest.param("0 3 30 2 *", "cannot read the field day-of-month", id="30 February"),
        pytest.param("0 3 L * *", "has no L, W or #", id="the last day"),
        pytest.param("0 3 * * 5#2", "has no L, W or #", id="the second Friday"),
    ],
)
def test_what_cannot_be_translated_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        crons.translate(cron)
    assert message in str(error.value) and cron in str(error.value)


def test_the_next_times_are_in_utc() -> None:
    after = datetime(2026, 11, 27, 2, 59, 30, tzinfo=UTC)
    times = crons.following("0 3 13 * 5", after, 4)  # a Friday, or the 13th
    assert [f"{time:%a %d %H:%M %Z}" for time in times] == [
        "Fri 27 03:00 UTC",
        "Fri 04 03:00 UTC",
        "Fri 11 03:00 UTC",
        "Sun 13 03:00 UTC",
    ]
