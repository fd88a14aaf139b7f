"""Objects made of arrays as safetensors and JSON: no pickle, and read by memory mapping."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from scipy import sparse
from torch import Tensor

LARGE = 1 << 20
"""Bytes of an array that is written once however many objects hold it."""
BESIDE = "beside:"
"""Prefix of the names of arrays in another folder."""
Spec = dict[str, Any]


class ArrayWriter:
    """Writes arrays to `folder`, and describes in JSON what they belong to.

    A large array that `beside` has already is not written again: its reader needs that of `beside`.
    """

    def __init__(self, folder: Path, beside: "ArrayWriter | None" = None) -> None:
        self.folder = folder
        self.arrays: dict[str, np.ndarray] = {}
        self.beside = beside

    def add(self, name: str, value: Any) -> Spec:
        """Return the description of `value`: array, sparse matrix, tensor, number, text, or made of these.

        Attributes `config` and `models` are left out: a folder has one of each for all.
        """
        if isinstance(value, Tensor):
            if value.is_sparse:
                parts = {"indices": value.indices().numpy(), "values": value.values().numpy()}
                return {"kind": "coo", "shape": list(value.shape), **self._parts(name, parts)}
            return {"kind": "tensor", "array": self._put(name, value.detach().cpu().numpy())}
        if isinstance(value, np.ndarray):
            return {"kind": "array", "array": self._put(name, value)}
        if isinstance(value, sparse.csr_array):
            parts = {part: getattr(value, part) for part in ("data", "indices", "indptr")}
            return {"kind": "csr", "shape": list(value.shape), **self._parts(name, parts)}
        if isinstance(value, tuple):
            return {"kind": "tuple", "items": [self.add(f"{name}.{i}", v) for i, v in enumerate(value)]}
        if value is None or isinstance(value, bool | int | float | str):
            return {"kind": "value", "value": value}
        return {"kind": type(value).__name__, "fields": self.mapping(name, vars(value))}

    def mapping(self, name: str, values: Mapping[str, Any]) -> dict[str, Spec]:
        """Return the descriptions of `values`, without those that a configuration or a model gives."""
        left_out = ("config", "models")
        return {key: self.add(f"{name}.{key}", v) for key, v in values.items() if key not in left_out}

    def _parts(self, name: str, parts: Mapping[str, np.ndarray]) -> Spec:
        return {part: self._put(f"{name}.{part}", array) for part, array in parts.items()}

    def _put(self, name: str, array: np.ndarray) -> str:
        """Return the name of `array`, that of an equal one if it is large."""
        for known, other in self._all().items() if array.nbytes >= LARGE else ():
            if other.dtype == array.dtype and np.array_equal(other, array):
                return known
        self.arrays[name] = np.ascontiguousarray(array)
        return name

    def _all(self) -> dict[str, np.ndarray]:
        beside = self.beside.arrays if self.beside else {}
        return {f"{BESIDE}{name}": array for name, array in beside.items()} | self.arrays

    def write(self) -> None:
        """Write the arrays, those of one group (their name's first two words) at a time."""
        groups: dict[str, dict[str, np.ndarray]] = {}
        for name, array in self.arrays.items():
            groups.setdefault(".".join(name.split(".")[:2]), {})[name] = array
        for group, arrays in groups.items():
            save_file(arrays, self.folder / f"{group}.safetensors")


class ArrayReader:
    """Reads what an ArrayWriter wrote; `classes` are those of the objects."""

    def __init__(self, folder: Path, classes: Iterable[type], beside: "ArrayReader | None" = None) -> None:
        self.classes = {cls.__name__: cls for cls in classes}
        # Mapped, not read: processes of one machine share the pages.
        files = map(load_file, sorted(folder.glob("*.safetensors")))
        self.tensors = {name: tensor for file in files for name, tensor in file.items()}
        if beside:
            self.tensors |= {f"{BESIDE}{name}": tensor for name, tensor in beside.tensors.items()}

    def get(self, spec: Spec, **attributes: Any) -> Any:
        """Return what `spec` describes, an object with further `attributes`."""
        kind = spec["kind"]
        if kind == "value":
            return spec["value"]
        if kind == "tensor":
            return self.tensors[spec["array"]]
        if kind == "array":
            return self.tensors[spec["array"]].numpy()
        if kind == "tuple":
            return tuple(self.get(item) for item in spec["items"])
        if kind == "csr":
            parts = (self.tensors[spec[part]].numpy() for part in ("data", "indices", "indptr"))
            return sparse.csr_array(tuple(parts), shape=spec["shape"])
        if kind == "coo":
            indices, values = self.tensors[spec["indices"]], self.tensors[spec["values"]]
            shape = spec["shape"]
            return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True, check_invariants=True)
        restored: Any = object.__new__(self.classes[kind])
        vars(restored).update({key: self.get(field) for key, field in spec["fields"].items()} | attributes)
        return restored
