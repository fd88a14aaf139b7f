"""Table formats whose data files mean nothing without their log, which says what was erased or rewritten.

Delta tables are read by their log; the others are refused by name.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from components.shared.artifacts.storage import Folder, is_remote
from components.shared.errors import DataError

DELTA_LOG, HIVE_NULL = "_delta_log", "__HIVE_DEFAULT_PARTITION__"
_MARKERS = {
    "Apache Hudi": r"(^|/)(\.hoodie(/|_partition_metadata)|\.[^/]+\.log\.\d+_)",
    "Apache Iceberg": r"(^|/)metadata/[^/]*metadata\.json(\.gz)?$",
    "Apache Paimon": r"(^|/)snapshot/snapshot-\d+$",
    "Hive ACID": r"(^|/)(base|delta|delete_delta)_\d+(_\d+)*/",
    "Lance": r"(^|/)_versions/[^/]*\.manifest$",
    "Delta": rf"/{DELTA_LOG}/",
}
"""What a path below a table's folder holds where the folder is no mere folder of files, by format."""
_FOOTERS = {
    b"iceberg.schema": "Apache Iceberg",
    b"org.apache.hudi.bloomfilter": "Apache Hudi",
    b"hoodie_min_record_key": "Apache Hudi",
}
"""What writers of such tables leave in the footers of their Parquet files."""
_READ_FEATURES = {"deletionVectors", "columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
_NONE = np.empty(0, np.int64)


def refuse(shown: str, paths: Sequence[str]) -> None:
    """Raise DataError if `paths` in the folder `shown` belong to a format not read."""
    for name, pattern in _MARKERS.items():
        if marker := next((path for path in paths if re.search(pattern, path)), None):
            raise _refused(f"{shown}: a table of {name} (it holds {marker}), whose")


def refuse_file(shown: str, footer: Mapping[bytes, bytes] | None) -> None:
    """Raise DataError if a Parquet file with this `footer` belongs to such a table."""
    if name := next((_FOOTERS[key] for key in footer or () if key in _FOOTERS), None):
        raise _refused(f"{shown}: a file of a table of {name}, and the table's log is not here; such")


def _refused(what: str) -> DataError:
    return DataError(
        f"{what} files also hold rows that were erased or rewritten; export its current state as plain "
        "Parquet (Spark: spark.table(NAME).write.parquet(FOLDER)) and name that folder"
    )


@dataclass(frozen=True)
class LiveFile:
    """Values of its partitions, and numbers (from 0) of the rows that were erased."""

    values: Mapping[str, str | None]
    erased: npt.NDArray[np.int64]


def delta_files(folder: Folder, name: str) -> dict[str, LiveFile]:
    """Return the live data files of the Delta table `name`, relative to `folder`.

    Raises DataError: the log is unreadable, or uses what is not read.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    shown = folder.shown(name)
    if not is_remote(shown) and re.search("%[0-9A-Fa-f]{2}", folder.root):
        raise DataError(
            f"{shown}: Delta's reader takes % and two digits for another character; rename the folder"
        )
    uri = re.sub("^minio:", "s3:", shown) if is_remote(shown) else f"{folder.root}/{name}"
    try:
        table = DeltaTable(uri, storage_options=_storage_options(uri))
        features = set(table.protocol().reader_features or [])
        is_mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
        root, rows = table.table_uri.rstrip("/"), _actions(table)
        erased = _erased(table) if "deletionVectors" in features else {}
    except (DeltaError, OSError, ValueError) as error:
        raise DataError(f"{shown}: the log of this Delta table is not readable ({error})") from error
    if is_mapped or features - _READ_FEATURES:
        named = ", ".join(sorted(features - _READ_FEATURES)) or "column mapping"
        raise DataError(f"{shown}: this Delta table uses {named}; export its current state as plain Parquet")
    if elsewhere := next((row["path"] for row in rows if "://" in row["path"]), None):
        raise DataError(
            f"{shown}: a shallow clone, whose files lie elsewhere ({elsewhere}); export its current state as "
            "plain Parquet"
        )
    files = {}
    for row in rows:
        found = erased.pop(f"{root}/{row['path']}", _NONE)
        files[str(PurePosixPath(name) / unquote(row["path"]))] = LiveFile(row.get("partition") or {}, found)
    if erased:
        raise DataError(
            f"{shown}: the log of this Delta table has a deletion vector for {min(erased)}, which is none of "
            "its files; export its current state as plain Parquet"
        )
    return files


def _actions(table: object) -> list[dict]:
    import pyarrow as pa

    found: list[dict] = pa.table(table.get_add_actions(flatten=False)).to_pylist()  # type: ignore[attr-defined]
    return found


def _erased(table: object) -> dict[str, npt.NDArray[np.int64]]:
    """Return the numbers of erased rows by the address of their file."""
    import pyarrow as pa

    vectors = pa.table(table.deletion_vectors())  # type: ignore[attr-defined]
    masks = (mask.values.to_numpy(zero_copy_only=False) for mask in vectors["selection_vector"])
    return {
        path: np.flatnonzero(~mask) for path, mask in zip(vectors["filepath"].to_pylist(), masks, strict=True)
    }


def _storage_options(uri: str) -> dict[str, str] | None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return {"AWS_ALLOW_HTTP": "true"} if is_remote(uri) and endpoint.startswith("http:") else None


def partitions(file: PurePosixPath) -> dict[str, str | None]:
    """Return the columns that the names of the file's folders hold (`action=view`)."""
    pairs = (part.partition("=") for part in file.parts[1:-1])
    return {
        unquote(name): None if value == HIVE_NULL else unquote(value)
        for name, is_pair, value in pairs
        if is_pair
    }
