"""The validation and test windows of a temporal split: where they begin, and whether they hold anything."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig
from components.shared.errors import DataError
from components.shared.times import parse_time

DAY_US = 86_400_000_000
LEAST_SHARE = 0.001
"""Of the users kept, with a label in a window; fewer are outliers, and so are fewer than LEAST_USERS."""
LEAST_USERS = 10  # or a tenth of the users kept, where that is fewer


def cuts(config: SequencesConfig, events: DataFrame) -> tuple[int, int]:
    """Return the starts of validation and test, µs since the epoch.

    Without `as_of` the test ends with the log.
    """
    if config.as_of:
        end = round(parse_time("as_of", config.as_of).timestamp() * 1e6)
    else:
        end = (events.agg(F.unix_micros(F.max("timestamp"))).collect()[0][0] or 0) + 1
    test_from = end - config.test_days * DAY_US
    return test_from - config.valid_days * DAY_US, test_from


def check(config: SequencesConfig, counts: Mapping[str, int], events: DataFrame) -> None:
    """Raise DataError, naming the outlier if any, where hardly a user has labels.

    `counts` are the users kept, and those with a label in the windows valid and test.
    """
    users = counts["users"]
    least = max(1, min(LEAST_USERS, users // 10), LEAST_SHARE * users)
    if min(counts["valid"], counts["test"]) >= least:
        return
    end = f"as_of={config.as_of!r}" if config.as_of else "the last event"
    raise DataError(
        f"the temporal split leaves {counts['valid']:,} of {users:,} users a label in "
        f"{config.valid_days} days of validation and {counts['test']:,} in {config.test_days} days of test "
        f"before {end}: too few.{'' if config.as_of else _outlier(config, events, least)} "
        "Set sequences.as_of to the end of the log, or longer windows."
    )


def _outlier(config: SequencesConfig, events: DataFrame, least: float) -> str:
    """Return whose events alone lie in the test window, for people; empty if many do."""
    time = F.unix_micros("timestamp")
    last = events.groupBy("user_id").agg(F.max(F.struct(time.alias("time"), "item_id")).alias("last"))
    last = last.select("user_id", "last.*")
    late = last.where(F.col("time") >= cuts(config, events)[1])
    found = late.orderBy(F.desc("time"), "user_id").limit(int(least) + 1).collect()
    if len(found) > least:
        return ""
    rest = last.join(late, "user_id", "left_anti").agg(F.max("time")).collect()[0][0]
    if rest is None:
        return ""
    return (
        f" Is the event of {_day(found[0].time)} (user {found[0].user_id!r}, item {found[0].item_id!r}) an "
        f"outlier? {len(found)} of all users have events in the test window, and the others' end with "
        f"{_day(rest)}; sequences.as_of: {_day(rest, 1)} ends the window there."
    )


def _day(micros: int, later: int = 0) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros, days=later):%Y-%m-%d}"
