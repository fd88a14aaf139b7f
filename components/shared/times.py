"""Times of configurations: ISO 8601, UTC."""

from datetime import UTC, datetime


def parse_time(name: str, text: str) -> datetime:
    """Return the ISO 8601 `text` as a UTC time (default zone: UTC). Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{name}={text!r}: not an ISO 8601 date or time such as 2025-06-30T00:00Z"
        ) from error
