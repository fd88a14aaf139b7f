"""Short stable names for contents: keys of caches, checkpoints and runs."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 1 << 20


def of_text(*parts: str) -> str:
    """Return 16 hex digits that name the given texts; their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(f"{len(encoded)}:".encode() + encoded)
    return digest.hexdigest()[:16]


def of_files(paths: Iterable[Path], root: Path) -> str:
    """Return 16 hex digits that name the contents of `paths` and their places below `root`."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


def of_folder(folder: Path, pattern: str = "**/*") -> str:
    """Return 16 hex digits that name every file of `folder` that fits `pattern`."""
    return of_files((p for p in Path(folder).glob(pattern) if p.is_file()), Path(folder))
