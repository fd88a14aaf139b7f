"""The validation and test windows of a temporal split: where they begin, and whether they hold anything."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from components.etl.config import SequencesConfig
from components.shared.errors import DataError
from components.shared.times import parse_time

DAY_US = 86_400_000_000
LEAST_SHARE = 0.001  # of the users kept; fewer are outliers
LATEST = 100  # days with events among which an outlier is looked for


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
    least = max(1, LEAST_SHARE * counts["users"])
    if min(counts["valid"], counts["test"]) >= least:
        return
    times = F.unix_micros("timestamp").alias("time")
    of_a_day = events.groupBy(F.to_date("timestamp")).agg(
        F.max(F.struct(times, "user_id", "item_id")).alias("last")
    )
    latest = of_a_day.select("last.*").orderBy(F.desc("time")).limit(LATEST).collect()
    gaps = [(later.time - earlier.time, number) for number, (later, earlier) in enumerate(pairwise(latest))]
    gap, number = max(gaps, key=lambda found: found[0], default=(0, 0))
    last = latest[number]
    outlier = ""
    if gap > (config.valid_days + config.test_days) * DAY_US:
        outlier = (
            f" Is the event of {_day(last.time)} (user {last.user_id!r}, item {last.item_id!r}) an outlier? "
            f"The one before it is {gap // DAY_US:,} days older; "
            f"sequences.as_of: {_day(latest[number + 1].time, 1)} ends the window there."
        )
    window = f"as_of={config.as_of!r}" if config.as_of else f"the last event, of {_day(latest[0].time)}"
    raise DataError(
        f"the temporal split leaves {counts['valid']:,} of {counts['users']:,} users a label in "
        f"{config.valid_days} days of validation and {counts['test']:,} in {config.test_days} days of test "
        f"before {window}: too few.{outlier} Set sequences.as_of to the end of the log, or longer windows."
    )


def _day(micros: int, later: int = 0) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros, days=later):%Y-%m-%d}"
