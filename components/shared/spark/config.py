"""Configuration of Spark, of every step that uses it."""

from dataclasses import field

from pydantic import PositiveInt

from components.shared.config import strict


@strict
class SparkConfig:
    """Where Spark runs, and its memory."""

    master: str = "local[*]"
    """Spark's master; any but `local[...]` means remote executors."""
    memory: str = "2g"
    """The driver's heap; with a `local[...]` master Spark has no other."""
    shuffle_partitions: PositiveInt = 4
    """Partitions of a shuffle."""
    quick_start: bool = True
    """Let the JVM compile less: faster below a minute, slower for tens of millions of events."""
    conf: dict[str, str] = field(default_factory=dict)
    """Any other Spark property."""

    @property
    def is_local(self) -> bool:
        """Return whether Spark runs in one process on this machine."""
        return self.master == "local" or self.master.startswith("local[")
