"""Sentence vectors that outlive a run: an encoder reads a text once, however often the step runs."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from components.retrieve.model_config import EncoderConfig
from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.fingerprint import of_text
from components.shared.artifacts.outputs import atomic_file
from components.shared.artifacts.storage import Folder, fetch, is_remote, upload
from components.shared.artifacts.training_state import read_archive
from components.shared.config import to_json

Vectors = npt.NDArray[np.float32]

FILE = "text_vectors.npz"
"""In a run's checkpoints."""
FOLDER = "sentence-vectors"
"""Beside the checkpoints of all runs, one file per encoder."""

_held: WeakValueDictionary[tuple[Path, bytes], Vectors] = WeakValueDictionary()
"""What was returned and is still in use: models of all folds read one array."""


def vectors_of(texts: Sequence[str], file: Path, encode: Callable[[Sequence[str]], Vectors]) -> Vectors:
    """Return [texts, dim]: what `file` has, by the text's hash, and `encode` of the rest.

    After new texts `file` holds the vectors of `texts` and no others. What an earlier call returned is
    returned again as long as it is in use.
    """
    keys = [hashlib.blake2b(str(text).encode(), digest_size=16).digest() for text in texts]
    asked = file, hashlib.blake2b(b"".join(keys)).digest()
    vectors = _held.get(asked)
    if vectors is None:
        vectors = _held[asked] = _vectors(texts, keys, file, encode)
    return vectors


def _vectors(
    texts: Sequence[str], keys: Sequence[bytes], file: Path, encode: Callable[[Sequence[str]], Vectors]
) -> Vectors:
    known, saved = read_archive(file, _read) or ({}, None)
    missing = [row for row, key in enumerate(keys) if key not in known]
    if not missing and saved is not None:
        return saved[[known[key] for key in keys]]
    vectors = new = encode([str(texts[row]) for row in missing])  # a million items' are not copied
    if saved is not None:
        vectors = np.empty((len(keys), new.shape[1]), np.float32)
        vectors[missing] = new
        found = [row for row, key in enumerate(keys) if key in known]
        vectors[found] = saved[[known[keys[row]] for row in found]]
    with atomic_file(file) as unfinished, unfinished.open("wb") as opened:
        np.savez(opened, keys=np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16), vectors=vectors)
    checkpoint_store.push(file.parent)
    return vectors


def _read(file: Path) -> tuple[dict[bytes, int], Vectors]:
    with np.load(file) as archive:
        return {key.tobytes(): row for row, key in enumerate(archive["keys"])}, archive["vectors"]


@contextmanager
def shared(root: str, encoder: EncoderConfig, fingerprint: str, checkpoint_dir: Path) -> Iterator[None]:
    """Start with what an earlier run left below `root`; leave this run's there.

    `root` "" is no place; `fingerprint` names the encoder's files.

    Raises: DataError if the object storage refuses.
    """
    folder, name = f"{root.rstrip('/')}/{FOLDER}", f"{of_text(to_json(encoder), fingerprint)}.npz"
    file, taken = checkpoint_dir / FILE, None
    if root and not file.is_file() and _has(folder, name):
        fetch(f"{folder}/{name}", file)
        taken = file.stat().st_mtime_ns
    yield
    if root and file.is_file() and file.stat().st_mtime_ns != taken:
        if is_remote(root):
            upload(file, f"{folder}/{name}")
        else:
            with atomic_file(Path(folder) / name) as unfinished:
                copyfile(file, unfinished)


def _has(folder: str, name: str) -> bool:
    return name in {Path(entry.path).name for entry in Folder.at(folder).entries(may_be_missing=True)}
