"""Times in ISO 8601, UTC."""

from datetime import UTC, datetime


def from_milliseconds(milliseconds: int) -> str:
    """Return the Unix time as ISO 8601 to the second, UTC."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat().replace("+00:00", "Z")


def parse_time(name: str, text: str) -> datetime:
    """Return the ISO 8601 `text` as a UTC time (default zone: UTC). Raises ValueError."""
    try:
        if text.isdigit() and len(text) > len("20250630"):
            raise ValueError("a number")  # Python would read some epochs as years and hours
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{name}={text!r}: not an ISO 8601 date or time such as 2025-06-30T00:00Z"
        ) from error
