"""Between a step's report and the artifacts that show it."""

import dataclasses
from typing import Any

from components.etl.config import SparkConfig
from components.shared.artifacts.outputs import log_metrics, paths
from components.shared.artifacts.storage import is_remote
from components.shared.errors import ConfigError


def tables(config: SparkConfig, **artifacts: Any) -> dict[str, Any]:
    """Return where Spark reads or writes tables: artifacts' folders, their URIs for remote executors."""
    if config.is_local:
        return paths(**artifacts)
    uris = {name: artifact.uri for name, artifact in artifacts.items()}
    if local := [uri for uri in uris.values() if not is_remote(uri)]:
        raise ConfigError(
            f"spark.master={config.master!r} works on other machines, which cannot see {local[0]}; "
            "give the pipeline an s3:// root"
        )
    return uris


def log_report(report: Any, metrics: Any) -> None:
    """Log the numbers of a report dataclass as metrics; a mapping's entries become `name/key`."""
    numbers = dataclasses.asdict(report)
    reasons = numbers.pop("reasons", {})
    log_metrics(metrics, numbers | {f"reasons/{reason}": rows for reason, rows in reasons.items()})
