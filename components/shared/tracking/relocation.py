"""A folder with an SQLite database and its artifacts can be moved or copied: the database follows."""

import sqlite3
from contextlib import closing
from pathlib import Path

from components.shared.logs import logger

ARTIFACTS = "mlartifacts"
"""Name of the folder of artifacts, beside the database."""

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow records absolute places; it knows no places relative to its database."""

log = logger("mlflow")


def artifact_root(database: Path) -> str:
    """Return the URI of the folder of artifacts beside `database`."""
    return (database.resolve().parent / ARTIFACTS).as_uri()


def follow(database: Path) -> None:
    """Point the artifacts recorded in `database` to the folder that lies beside it."""
    root = artifact_root(database)
    if not (database.parent / ARTIFACTS).is_dir():
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        recorded = connection.execute(
            "select distinct artifact_location from experiments "
            "where artifact_location like ? and artifact_location != ?",
            (f"file:///%/{ARTIFACTS}", root),
        ).fetchall()
        for (old,) in recorded:
            for table, column in _PLACES:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where {column} = ? or substr({column}, 1, ?) = ?",
                    (root, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
            log.info("%s was moved or copied: its artifacts are read from %s, not %s", database, root, old)
