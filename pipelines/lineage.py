"""What a model was made from: fingerprints of data, models and code, versions, commit, run."""

import contextlib
import importlib.metadata
import os
import re
import subprocess
import sys
import unittest.mock
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
    """Return the fingerprint of the raw data: contents of a local folder; names, sizes and times at a URI.

    `exposures` is the folder or URI of the table exposures where that lies elsewhere.
    """
    tables = _contents(data, data, "the raw tables")
    if not exposures:
        return tables
    lists = _contents(exposures, f"sequences.exposures: {exposures}", "the table exposures")
    return fingerprint.of_text(tables, lists)


def _contents(location: str, shown: str, wanted: str) -> str:
    if is_remote(location):
        return fingerprint.of_text(*stamp(location))
    if not Path(location).is_dir():
        raise DataError(f"{shown}: no such folder; it must hold {wanted}")
    return fingerprint.of_folder(Path(location))


def of_model(model: BaseModelConfig | EncoderConfig) -> str:
    """Return the fingerprint of a model: contents of a folder or URI, version of a wheel, commit of a hub id.

    It is "" for a model that is missing, which its step reports.
    """
    source = model.source
    if source.startswith("bundled:"):
        with contextlib.suppress(KeyError, importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(WHEELS[source.removeprefix("bundled:")])
        return ""
    if is_remote(source):
        return fingerprint.of_text(*stamp(source))
    folder = Path(source).expanduser()
    if folder.is_dir():
        return fingerprint.of_folder(folder)
    return _hub_commit(source, model.revision) if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) else ""


def _hub_commit(repo: str, revision: str) -> str:
    """Return the commit that `revision` names on the hub or, without a network, in the hub's local cache."""
    from huggingface_hub import HfApi, snapshot_download

    with contextlib.suppress(Exception):  # whatever keeps the hub away
        return HfApi().model_info(repo, revision=revision, timeout=10).sha or ""
    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(repo, revision=revision, local_files_only=True)).name
    return ""


def of_reward(weights: RewardWeights) -> str:
    """Return the fingerprint of the user's own reward terms; "" without any.

    A term in a package counts with the whole package, any other with its file.

    Raises:
        ConfigError: a term cannot be imported.
    """
    from components.grpo.rewards import business_terms

    # Modules of the working folder come first, as in the steps, which run as `python -m`.
    with unittest.mock.patch.object(sys, "path", [os.getcwd(), *sys.path]):
        business_terms(weights)
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
    """Return the commit of the checkout, with "-dirty" if a tracked file is changed; "" outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""
