"""A unit: one output folder with a manifest that says what it was computed from.

The manifest is the one truth about whether an output is up to date. It lies inside the folder and
is written last; the folder appears under its name by a rename. So a process killed at any moment
leaves either the old folder, the new one, or neither and a complete new one beside it, which the
next run adopts. A cut of power leaves the same: the files are on the disk before the manifest
that vouches for them, and the manifest before the folder gets its name. A lock beside the folder
keeps two processes (or threads) from computing the same unit: the second waits and then finds the
first one's result.
"""

import contextlib
import functools
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmbseg.store.files import (
    MANIFEST,
    StoreError,
    file_shas,
    file_states,
    json_bytes,
    read_json,
    sha_of,
    write_json,
)
from fmbseg.store.flush import flush_file, flush_names, flush_tree
from fmbseg.store.growing import PARTIAL
from fmbseg.store.hashes import note, noted
from fmbseg.store.locks import FileLock

_FORMAT = 1
_FOUND_VALID = "unit"
"""What is noted of a manifest: for which key, and which states of its files, the unit was valid."""
_PARTS = ("inputs", "params", "code", "packages")


@dataclass(frozen=True)
class UnitKey:
    """What a unit is computed from; JSON values only.

    Attributes:
        inputs: name to SHA of every file or folder that is read.
        params: the step's own parameters.
        code: file to SHA of the code that is used.
        packages: upstream package to version.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> dict[str, Any]:
        """The four parts as JSON values."""
        return {part: dict(getattr(self, part)) for part in _PARTS}

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the JSON of the parts, keys sorted; hexadecimal."""
        return sha_of(self.parts())


def unit_is_valid(folder: str | Path, key: UnitKey) -> bool:
    """Whether the folder is the finished, unedited output for this key."""
    return unit_problem(folder, key) is None


def unit_problem(folder: str | Path, key: UnitKey) -> str | None:
    """Say why a unit has to be computed.

    Args:
        folder: the unit's folder.
        key: what it should have been computed from.

    Returns:
        One short line ("params.epochs changed", "a.json was edited"), or None when it is valid.
    """
    folder = Path(folder)
    found = None
    try:
        states = file_states(folder)  # before any of them is read
        if states is not None:
            found = sha_of([key.digest, states])
            if noted(folder / MANIFEST, _FOUND_VALID) == found:
                return None
    except OSError:  # of a unit that is not there, or that another process is replacing
        found = None
    problem = _problem(folder, key)
    if problem is None and found is not None:
        note(folder / MANIFEST, _FOUND_VALID, found)
    return problem


def _problem(folder: Path, key: UnitKey) -> str | None:
    """The same, whatever was found before."""
    if not folder.is_dir():
        return "not computed yet"
    try:
        manifest = read_json(folder / MANIFEST)
        found_format, found_key = manifest["format"], manifest["key"]
        files, parts = dict(manifest["files"]), dict(manifest["parts"])
        whole = (folder / MANIFEST).read_bytes() == json_bytes(manifest)
        whole = whole and (found_format != _FORMAT or found_key == sha_of(parts))
    except (StoreError, OSError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        return "its manifest is missing or damaged"
    if found_format != _FORMAT:
        return f"its manifest has format {found_format}; wanted {_FORMAT}"
    if found_key != key.digest:
        return _first_change(parts, key.parts()) + " changed"
    return _edit(folder, files)


def unit_edit(folder: str | Path, passing: str) -> str | None:
    """Say what was done to the files of a unit since it was made, whatever its key is.

    Args:
        folder: of the unit.
        passing: new files whose names end so do not count.

    Returns:
        One short line ("a.json was edited"); None when nothing was, or there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    try:
        return _edit(folder, dict(read_json(folder / MANIFEST)["files"]), passing)
    except (StoreError, OSError, KeyError, TypeError, ValueError):
        return "its manifest is missing or damaged"


def _edit(folder: Path, files: Mapping[str, str], passing: str | None = None) -> str | None:
    try:
        present = file_shas(folder)
    except FileNotFoundError:  # another process is putting a newer one in its place
        return "its files changed while they were read"
    for name in sorted(files.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in files:
            if passing and name.endswith(passing):
                continue
            return f"{name} was added"
        if files[name] != present[name]:
            return f"{name} was edited"
    return None


def run_unit(
    folder: str | Path,
    key: UnitKey,
    compute: Callable[[Path], None],
    *,
    keep: Path | None = None,
    lock: Path | None = None,
) -> bool:
    """Compute a unit unless its folder is valid already.

    Args:
        folder: the unit's folder; an outdated one is replaced once the new one is complete.
        key: what the unit is computed from.
        compute: writes every output into the empty folder it is handed (a sibling of `folder`).
        keep: folder of resume state (finished images, checkpoints): made before `compute`, left
            alone when it fails or is killed, removed once the unit is in place.
        lock: the file that is locked meanwhile, and stays; by default `<folder>.lock` beside it.

    Returns:
        True when computed (or completed from a killed run), False when valid already.

    Raises:
        Exception: whatever `compute` raises; the old folder then stays as it was.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = lock or folder.parent / f"{folder.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # freed by the kernel on a kill
        computed = not unit_is_valid(folder, key)
        if computed and not _adopt_finished(folder, key):
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
            partial = folder.parent / f"{_prefix(folder)}{os.getpid()}-{secrets.token_hex(4)}"
            partial.mkdir()
            try:
                compute(partial)
                flush_tree(partial)
                manifest = {
                    "format": _FORMAT,
                    "key": key.digest,
                    "parts": key.parts(),
                    "files": file_shas(partial),
                }
                write_json(partial / MANIFEST, manifest)
                flush_file(partial / MANIFEST)
                flush_names(partial)
            except BaseException:
                _remove(partial)
                raise
            _publish(partial, folder)
        for leftover in _leftovers(folder):
            _remove(leftover)
        if keep is not None:  # of a run that was killed once the unit was in place, too
            _remove(keep)
        return computed


def _prefix(folder: Path) -> str:
    return f".{folder.name}{PARTIAL}"


def _publish(partial: Path, folder: Path) -> None:
    if os.path.lexists(folder):  # a link that leads nowhere is in the way too
        os.rename(folder, folder.parent / f"{_prefix(folder)}old-{secrets.token_hex(4)}")
    os.rename(partial, folder)
    flush_names(folder.parent)


def _adopt_finished(folder: Path, key: UnitKey) -> bool:
    """Put in place what a killed run had completed but not renamed."""
    for candidate in _leftovers(folder):
        if unit_is_valid(candidate, key):
            _publish(candidate, folder)
            return True
    return False


def _remove(path: Path) -> None:
    """Remove a folder, or what stood in the place of one; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _leftovers(folder: Path) -> list[Path]:
    prefix = _prefix(folder)
    return sorted(path for path in folder.parent.iterdir() if path.name.startswith(prefix))


def _first_change(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    for part in _PARTS:
        before, after = found.get(part, {}), wanted[part]
        for name in sorted(before.keys() | after.keys()):
            if sha_of([name in before, before.get(name)]) != sha_of(
                [name in after, after.get(name)]
            ):
                return f"{part}.{name}"
    return "key"
