"""Short stable names for contents: keys of caches, checkpoints and runs."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_PACKAGES = ("components", "data_contracts")
# What people are shown during and after a step; a change of it must not retrain.
_FOR_PEOPLE = ("components.shared.reporting", "components.shared.logs")


def of_text(*parts: str) -> str:
    """Return 16 hex digits that name the given texts; their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()[:16]


def of_files(paths: Iterable[Path], root: Path) -> str:
    """Return 16 hex digits that name the contents of `paths` and their paths below `root`."""
    parts = []
    for path in sorted(paths):
        with path.open("rb") as file:
            parts += [str(path.relative_to(root)), hashlib.file_digest(file, "sha256").hexdigest()]
    return of_text(*parts)


def of_folder(folder: Path, pattern: str = "**/*") -> str:
    """Return 16 hex digits that name every file of `folder` that fits `pattern`."""
    root = Path(folder)
    # A table's folder may be a link, which is read; glob itself follows none.
    parts = [root, *(part for part in root.glob("*") if part.is_symlink() and part.is_dir())]
    return of_files({file for part in parts for file in part.glob(pattern) if file.is_file()}, root)


def of_step(step: str) -> str:
    """Return 16 hex digits naming the code of `step` and its libraries' versions.

    The code is every module of components/`step` and what these import from the project, anywhere in them.
    Left out are component.py, which KFP's own cache key covers, and components.shared.reporting and .logs.

    Raises: ValueError if there is no such step.
    """
    folder = ROOT / "components" / step
    if not folder.is_dir():
        raise ValueError(f"step '{step}': no folder {folder}")
    waiting = [file for file in folder.rglob("*.py") if file.name != "component.py"]
    files, libraries, seen = set(waiting), set(), set[str]()
    while waiting:
        file = waiting.pop()
        found = set(imports(file)) - seen
        seen |= found
        for name in found:
            if name.split(".")[0] not in _PACKAGES:
                libraries.add(name.split(".")[0])
            elif not name.startswith(_FOR_PEOPLE):
                reached = set(_sources(name)) - files
                files |= reached
                waiting += [file for file in reached if file.suffix == ".py"]
    versions = (f"{name} {_version(name)}" for name in sorted(libraries - sys.stdlib_module_names))
    return of_text(of_files(files, ROOT), *versions)


@functools.cache  # steps share most of their libraries
def _version(library: str) -> str:
    """Return the version of the distribution with that name; "" where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(library)
    return ""


def imports(file: Path) -> tuple[str, ...]:
    """Return the modules that `file` imports; for `from a import b`, a and a.b."""
    return _imports(file, file.stat().st_mtime_ns)


@functools.cache  # steps share most of their files; a file that is written has another time
def _imports(file: Path, changed: int) -> tuple[str, ...]:
    names = []
    for node in _statements(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements in `node`, however deep; expressions hold none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


def _sources(name: str) -> Iterator[Path]:
    """Yield the files of the project's module `name`, if any, and of its packages."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir():
        yield from path.rglob("*.json")  # the expectation suites come with the package that they lie in
    if path.with_suffix(".py").is_file():
        yield path.with_suffix(".py")
    for package in (path, *path.parents[: name.count(".")]):
        if (package / "__init__.py").is_file():
            yield package / "__init__.py"
