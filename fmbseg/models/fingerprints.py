"""Hashes of weight files, taken once per state of a file, for cache keys and checks."""

import contextlib
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from fmbseg.store import StoreError, read_json, write_json

LARGE_BYTES = 50_000_000
"""Hashes of files from this size on are kept on disk for later processes."""


def content_sha256(path: Path) -> str:
    """Sha256 of a file, or of all files of a folder with their names."""
    if path.is_file():
        return file_digest(path, "sha256")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {content_sha256(file)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path, kind: str) -> str:
    """MD5 or SHA-256 of a file, read once as long as its size, dates and inode stay the same.

    The date of the inode's change is among them, which no copy keeps. For large files the hash is
    also kept in `cache_folder()`, so that a process need not read gigabytes to name a key.

    Args:
        path: the file; links are followed.
        kind: "md5" or "sha256".
    """
    real = path.resolve()
    status = real.stat()
    state = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return _digest(real, kind, state)


def cache_folder() -> Path:
    """Where hashes of large files are kept; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fmbseg" / "hashes"


@lru_cache(maxsize=256)
def _digest(path: Path, kind: str, state: tuple[int, ...]) -> str:
    if state[1] < LARGE_BYTES:
        return _hash(path, kind)
    record = {"path": str(path), "state": list(state)}
    name = hashlib.sha256(json.dumps([kind, str(path)]).encode()).hexdigest()[:32]
    kept = cache_folder() / f"{name}.json"
    with contextlib.suppress(StoreError, OSError, AttributeError, TypeError):
        known = read_json(kept)
        if {key: known.get(key) for key in record} == record:
            return str(known[kind])
    found = _hash(path, kind)
    with contextlib.suppress(OSError):  # a home that cannot be written to costs time alone
        write_json(kept, {**record, kind: found})
    return found


def _hash(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
