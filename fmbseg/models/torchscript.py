"""The tensors of a TorchScript archive, read without running anything that stands in it.

OpenAI published its CLIP weights as TorchScript. `torch.jit.load` runs the archive's
`__setstate__` methods, which can write files, so it is not used: the pickle inside is read with a
closed list of names, and everything but tensors is thrown away.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_MAGIC = b"PK\x03\x04"
_TYPES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
_AS_THEY_ARE = (
    "build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag",
)  # fmt: skip


class NotTensorsError(ValueError):
    """An archive holds something that is not read from a weight file."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of TorchScript, by torch's own test.

    The file begins as a zip archive, and its top folder holds constants.pkl.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return f"{_top(names)}/constants.pkl" in names
    except zipfile.BadZipFile:
        return False


def read_torchscript(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by their dotted names.

    Args:
        path: the archive.
        device: "cpu", or "meta" for shapes and types alone.

    Raises:
        NotTensorsError: it holds what no plain module's state is made of.
        zipfile.BadZipFile: it is cut short or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        top = _top(archive.namelist())
        with archive.open(f"{top}/data.pkl") as stream:
            state = _Unpickler(stream, archive, top, device).load()
    found: dict[str, Tensor] = {}
    _collect(state, "", found, set())
    return found


def written_with_quick_gelu(path: Path) -> bool:
    """Whether the code of a TorchScript archive never calls torch's GELU; it is only read.

    OpenAI's archives multiply by a sigmoid, which is QuickGELU.
    """
    with zipfile.ZipFile(path) as archive:
        code = [name for name in archive.namelist() if name.endswith(".py")]
        return not any(re.search(rb"\bgelu\(", archive.read(name)) for name in code)


class _Object:
    """Stands for any object of the archive: it keeps its state and does nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads an archive's pickle by a closed list of names that holds nothing that acts."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, top: str, device: str) -> None:
        super().__init__(stream)
        self._archive, self._top, self._device = archive, top, device
        self._known: dict[str, Tensor] = {}
        """Storages, each read once."""
        names = set(archive.namelist())
        if f"{top}/byteorder" in names and archive.read(f"{top}/byteorder") != b"little":
            raise NotTensorsError("its numbers are not little-endian")

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Object
        if (module, name) not in _NAMES:
            raise NotTensorsError(f"it asks for {module}.{name}"[:120])
        return _NAMES[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """All numbers of one storage in a row."""
        try:
            kind, dtype, key, _, count = pid
        except (TypeError, ValueError):
            kind = dtype = key = count = None
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise NotTensorsError("a tensor's storage is not described as torch does")
        if self._device == "meta":
            return torch.empty(int(count), dtype=dtype, device="meta")
        if key not in self._known:
            if not key.isalnum():
                raise NotTensorsError(f"it names a storage {key!r}")
            entry = self._archive.getinfo(f"{self._top}/data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise NotTensorsError("its tensors are compressed, which torch never does")
            data = bytearray(self._archive.read(entry))
            self._known[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(
                0, dtype=dtype
            )  # fmt: skip
        return self._known[key]


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    """A view of a storage; torch checks that it lies inside."""
    return torch.as_strided(storage, size, stride, offset)


def _as_it_is(value: Any, *_: Any) -> Any:
    return value


_NAMES: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("collections", "OrderedDict"): OrderedDict,
    **{("torch", name): dtype for name, dtype in _TYPES.items()},
    **{("torch.jit._pickle", name): _as_it_is for name in _AS_THEY_ARE},
}
"""What a pickle may ask for, beside objects that are not made."""


def _collect(value: Any, prefix: str, found: dict[str, Tensor], seen: set[int]) -> None:
    if isinstance(value, Tensor):
        found[prefix] = value
    elif isinstance(value, _Object) and isinstance(value.state, dict) and id(value) not in seen:
        seen.add(id(value))
        for name, inner in value.state.items():
            _collect(inner, f"{prefix}.{name}" if prefix else str(name), found, seen)


def _top(names: list[str]) -> str:
    """The folder that all entries lie in: an archive of torch has one."""
    return names[0].split("/", 1)[0] if names else ""
