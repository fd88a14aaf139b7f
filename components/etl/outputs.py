"""Where Spark reads and writes the tables of the data steps."""

from collections.abc import Mapping
from typing import Any

from components.shared.artifacts.storage import is_remote, local_copy
from components.shared.errors import ConfigError
from components.shared.spark.config import SparkConfig

TABLES = ("sequences", "catalogue", "users", "exposures", "quarantine")


def inputs(config: SparkConfig, tables: Mapping[str, str], *names: str) -> dict[str, Any]:
    """Return where Spark reads the tables `names`: on this disk unless executors are elsewhere."""
    if not config.is_local:
        return {name: seen_by_executors(config, tables[name]) for name in names}
    return {name: local_copy(tables[name]) for name in names}


def outputs(config: SparkConfig, artifact: Any) -> dict[str, Any]:
    """Return where Spark writes the tables of `sequences`: below the artifact's folder or its URI."""
    folder = artifact.path if config.is_local else seen_by_executors(config, artifact.uri)
    return {name: f"{folder}/{name}" for name in TABLES}


def seen_by_executors(config: SparkConfig, uri: str, remedy: str = "give the pipeline an s3:// root") -> str:
    """Return `uri`. Raises ConfigError with the `remedy`: executors elsewhere cannot see it."""
    if not is_remote(uri):
        raise ConfigError(
            f"spark.master={config.master!r} works on other machines, which cannot see {uri}; {remedy}"
        )
    return uri
