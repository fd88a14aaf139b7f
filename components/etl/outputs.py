"""Between a step's report and the artifacts that show it."""

import dataclasses
from pathlib import Path
from typing import Any

from components.etl.config import SparkConfig
from components.shared.artifacts.outputs import write_json
from components.shared.artifacts.storage import is_remote
from components.shared.errors import ConfigError


def table_of(artifact: Any, config: SparkConfig) -> str | Path:
    """Return where Spark reads or writes a table: the artifact's folder, its URI for remote executors.

    Raises ConfigError: executors are remote, and the pipeline root is no object storage.
    """
    if config.is_local:
        return Path(artifact.path)
    if not is_remote(artifact.uri):
        raise ConfigError(
            f"spark.master={config.master!r} works on other machines, which cannot see {artifact.uri}; "
            "give the pipeline an s3:// root"
        )
    return artifact.uri


def log_report(report: Any, metrics: Any) -> None:
    """Log the numbers of a report dataclass as metrics; a mapping's entries become `name/key`."""
    numbers = dataclasses.asdict(report)
    reasons = numbers.pop("reasons", {})
    numbers |= {f"reasons/{reason}": rows for reason, rows in reasons.items()}
    for name, value in numbers.items():
        metrics.log_metric(name, value)
    write_json(Path(metrics.path), numbers)  # without a file there, KFP's local cache never hits
