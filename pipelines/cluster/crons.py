"""Five cron fields as people write them, in the six of Kubeflow Pipelines (robfig/cron 1.2)."""

from datetime import UTC, datetime
from itertools import islice

from cronsim import CronSim, CronSimError

from components.shared.errors import ConfigError


def translate(cron: str) -> str:
    """Return the six fields, seconds first, that mean the same as the five of `cron`.

    Kubeflow Pipelines accepts five fields too, and takes the first for seconds. A field that begins with *
    stays (days of month and of week then both have to match, in both programs); others are written out as
    numbers, so that names, ranges and Sunday as 7 mean the same.

    Raises: ConfigError if `cron` has no five fields, a mistake, or days such as L and 5#2.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ConfigError(
            f"--cron {cron!r}: has {len(fields)} fields; write minute hour day-of-month month day-of-week, "
            'such as "0 3 * * *"'
        )
    parsed = _parse(cron)
    weekdays = {0 if day == 7 else day for day in parsed.weekdays}
    sets = (parsed.minutes, parsed.hours, parsed.days, parsed.months, weekdays)
    numbers = [sorted(day for day in values if isinstance(day, int) and day >= 0) for values in sets]
    if sum(len(values) for values in numbers) != sum(len(values) for values in sets):
        raise ConfigError(f"--cron {cron!r}: Kubeflow Pipelines has no L, W or #; write plain days")
    written = [",".join(map(str, values)) for values in numbers]
    pairs = zip(fields, written, strict=True)
    return " ".join(["0", *(field if field.startswith("*") else number for field, number in pairs)])


def following(cron: str, after: datetime, count: int = 3) -> list[datetime]:
    """Return the next `count` times of the five fields `cron`, in UTC."""
    return list(islice(_parse(cron, after.astimezone(UTC)), count))


def _parse(cron: str, after: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> CronSim:
    try:
        return CronSim(cron, after)
    except CronSimError as error:
        raise ConfigError(f"--cron {cron!r}: {error}".replace("Bad", "cannot read the field")) from error
