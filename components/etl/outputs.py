"""Between the data steps' tables, their reports and the artifacts that show them."""

import dataclasses
from typing import Any

from components.etl.config import SparkConfig
from components.shared.artifacts.outputs import log_metrics
from components.shared.artifacts.storage import is_remote, local_copy
from components.shared.errors import ConfigError

TABLES = ("sequences", "catalogue", "users", "exposures", "quarantine")


def inputs(config: SparkConfig, location: str, *names: str) -> dict[str, Any]:
    """Return the tables `names` below `location`: on this disk unless executors are elsewhere."""
    folders = {name: f"{location}/{name}" for name in names}
    if not config.is_local:
        return {name: _seen_by_executors(config, folder) for name, folder in folders.items()}
    return {name: local_copy(folder) for name, folder in folders.items()}


def outputs(config: SparkConfig, artifact: Any) -> dict[str, Any]:
    """Return where Spark writes the tables of `sequences`: below the artifact's folder or its URI."""
    folder = artifact.path if config.is_local else _seen_by_executors(config, artifact.uri)
    return {name: f"{folder}/{name}" for name in TABLES}


def _seen_by_executors(config: SparkConfig, uri: str) -> str:
    if not is_remote(uri):
        raise ConfigError(
            f"spark.master={config.master!r} works on other machines, which cannot see {uri}; "
            "give the pipeline an s3:// root"
        )
    return uri


def log_report(report: Any, metrics: Any) -> None:
    """Log the numbers of a report dataclass as metrics; a mapping's entries become `name/key`."""
    numbers = dataclasses.asdict(report)
    reasons = numbers.pop("reasons", {})
    log_metrics(metrics, numbers | {f"reasons/{reason}": rows for reason, rows in reasons.items()})
