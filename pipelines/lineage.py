"""What a model was made from: fingerprints of data and code, versions, commit, run."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from components.grpo.config import REWARD_VERSION, RewardWeights
from components.shared.artifacts import fingerprint
from components.shared.artifacts.storage import is_remote, stamp
from components.shared.errors import DataError
from components.shared.prompting.render import PROMPT_VERSION

ROOT = Path(__file__).resolve().parent.parent
CODE = ("components", "data_contracts", "pipelines")


def of_data(data: str, exposures: str = "") -> str:
    """Return the fingerprint of the raw data: contents of a local folder, names, sizes and times of a URI.

    `exposures` is where lists from outside lie, if elsewhere.

    Raises:
        DataError: nothing is there.
    """
    if exposures:
        lists = _contents(exposures, f"sequences.exposures: {exposures}", "the table exposures")
        return fingerprint.of_text(of_data(data), lists)
    return _contents(data, data, "the raw tables")


def _contents(place: str, shown: str, wanted: str) -> str:
    if is_remote(place):
        return fingerprint.of_text(*stamp(place))
    folder = Path(place)
    if not folder.is_dir():
        raise DataError(f"{shown}: no such folder; it must hold {wanted}")
    return fingerprint.of_folder(folder)


def of_model(source: str) -> str:
    """Return the fingerprint of a model in a folder or at a URI; "" for one that its name pins."""
    if is_remote(source):
        return fingerprint.of_text(*stamp(source))
    folder = Path(source).expanduser()
    return fingerprint.of_folder(folder) if folder.is_dir() else ""


def of_reward(weights: RewardWeights) -> str:
    """Return the fingerprint of the source files of reward terms of the user's own; "" without any.

    A term in a package counts with the whole package, any other with its own file.

    Raises:
        ConfigError: a term cannot be imported.
    """
    from components.grpo.rewards import business_terms

    with _modules_of_the_working_folder():
        business_terms(weights)
    found = []
    for name in sorted({re.split("[.:]", name)[0] for name in weights.business if ":" in name}):
        module = sys.modules[name]
        folders = [Path(folder) for folder in getattr(module, "__path__", ())]
        found += [fingerprint.of_files(folder.rglob("*.py"), folder) for folder in folders]
        if not folders and (file := getattr(module, "__file__", None)):
            found.append(fingerprint.of_files([Path(file)], Path(file).parent))
    return fingerprint.of_text(*found) if found else ""


@contextlib.contextmanager
def _modules_of_the_working_folder() -> Iterator[None]:
    """Find modules where the steps do: those run as `python -m`, which looks in the working folder first."""
    before = sys.path[:]
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def of_code() -> str:
    """Return the fingerprint of the project's own source files."""
    files = [p for part in CODE for p in (ROOT / part).rglob("*") if p.suffix in (".py", ".json")]
    return fingerprint.of_files(files, ROOT)


def describe(
    run_key: str, profile: str, data: str, data_fingerprint: str, code: str, base_model: str, base: str
) -> dict[str, str]:
    """Return the lineage of a run: the tags of the model version that it registers."""
    return {
        "run_key": run_key,
        "profile": profile,
        "data": data,
        "data_fingerprint": data_fingerprint,
        "code_fingerprint": code,
        "git_commit": _git_commit(),
        "prompt_version": PROMPT_VERSION,
        "reward_version": REWARD_VERSION,
        "base_model": base_model,
        "base_model_fingerprint": base,
    }


def _git_commit() -> str:
    """Return the commit of the checkout, with "-dirty" after uncommitted changes; "" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
