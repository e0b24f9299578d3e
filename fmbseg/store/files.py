"""Whole files, written to a temporary name and renamed: a reader sees the old or the new one.

That holds after a cut of power, too: the content is on the disk before it gets its name.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmbseg.store.growing import growing_path
from fmbseg.store.hashes import file_sha, is_settled, state_of

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
"""Name of a unit's manifest, inside the unit's folder; it is not counted among its files."""


class StoreError(ValueError):
    """A file of ours is missing, damaged or does not fit; the text is one short line."""


def write_bytes(path: str | Path, data: bytes, *, flush: bool = True) -> None:
    """Write a file in one step: afterwards it holds all of `data`, or what it held before.

    Args:
        path: target; missing parent folders are made.
        data: the content.
        flush: force the content onto the disk before the file gets its name, so that this holds
            after a cut of power too. Costs some milliseconds; False suits a file whose reader
            notices damage and then makes it again. In a unit's unfinished folder `run_unit` does
            it for all files at once.
    """
    path = Path(path)
    try:
        _write_bytes(path, data, flush)
    except FileNotFoundError:  # somebody removed the folder between two of the calls
        _write_bytes(path, data, flush)


def _write_bytes(path: Path, data: bytes, flush: bool) -> None:
    with growing_path(path, flush=flush) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, obj: Any, *, compact: bool = False) -> None:
    """Write JSON in one step; the same object gives the same bytes (keys keep their order).

    Args:
        path: target.
        obj: JSON values; NaN and infinity are refused, write None for "no value".
        compact: one line without spaces, for large files.

    Raises:
        ValueError: a NaN or an infinity.
    """
    write_bytes(path, json_bytes(obj, compact=compact))


def json_bytes(obj: Any, *, compact: bool = False) -> bytes:
    """The bytes that `write_json` writes."""
    if compact:
        text = json.dumps(obj, separators=(",", ":"), allow_nan=False)
    else:
        text = json.dumps(obj, indent=2, allow_nan=False)
    return (text + "\n").encode()


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: no such file, or no JSON in it.
    """
    content = _content(path)
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{path}: not valid JSON ({error}); delete it and run its step") from None


def save_safetensors(path: str | Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors in one step; same tensors, same bytes."""
    import safetensors.torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(plain))


def load_safetensors(path: str | Path) -> dict[str, "Tensor"]:
    """Read tensors onto the CPU.

    Raises:
        StoreError: no such file, or no safetensors in it.
    """
    import safetensors.torch

    content = _content(path)
    try:
        loaded: dict[str, Tensor] = safetensors.torch.load(content)
    except Exception as error:
        raise StoreError(f"{path}: not a safetensors file ({error})") from None
    return loaded


def _content(path: str | Path) -> bytes:
    if not Path(path).is_file():
        raise StoreError(f"{path}: no such file; run the step that writes it")
    return Path(path).read_bytes()


def sha_of(obj: Any) -> str:
    """SHA-256 of an object's JSON, keys sorted; hexadecimal."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_shas(folder: str | Path) -> dict[str, str]:
    """Relative name to SHA-256 of every file below `folder`, sorted by name.

    Left out: the manifest at the top, and whatever has a name with a leading dot (`.DS_Store`,
    our own temporary files), which no step reads.
    """
    return {name: file_sha(path) for name, path in sorted(_files_below(folder))}


def file_states(folder: str | Path) -> dict[str, tuple[int, ...]] | None:
    """Relative name to inode, size and dates of the files that `file_shas` reads, sorted by name.

    Returns:
        None while one of them has just changed, since its state does not tell its content yet.

    Raises:
        OSError: a file went away meanwhile.
    """
    states = {name: path.stat() for name, path in sorted(_files_below(folder))}
    if not all(map(is_settled, states.values())):
        return None
    return {name: state_of(status) for name, status in states.items()}


def _files_below(folder: str | Path) -> Iterator[tuple[str, Path]]:
    """Relative name, with forward slashes, and path of what counts of a unit's files."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent)
        inside = "" if below == Path(folder) else f"{below.relative_to(folder).as_posix()}/"
        for name in files:
            if not name.startswith(".") and inside + name != MANIFEST:
                yield inside + name, below / name
