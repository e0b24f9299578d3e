"""Checking a fetched file: its size, its checksum, or what was recorded the first time."""

import hashlib
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fmbseg.datasets.entry import Remote
from fmbseg.fetch.remote import DownloadError, shown
from fmbseg.progress import progress as progress_of
from fmbseg.store import StoreError, read_json, write_json

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Record:
    """What is known of a fetched file; `<file>.json` beside it holds this.

    Attributes:
        url: where it came from; empty when a user brought it.
        size_bytes: its size.
        sha256: of its content.
        checked_with: what it was compared with: "md5" and "sha256" that the publisher gives,
            "size", or "" when nothing is published: then this record is what later downloads are
            compared with.
        recorded: UTC, when the file was first found good.
    """

    url: str
    size_bytes: int
    sha256: str
    checked_with: str
    recorded: str


def record_path(file: Path) -> Path:
    """Where the record of a file lies; it outlives the file."""
    return file.with_name(f"{file.name}.json")


def read_record(file: Path) -> Record | None:
    """The record of a file; None when there is none or it is damaged."""
    try:
        return Record(**read_json(record_path(file)))
    except (StoreError, TypeError):
        return None


def check(path: Path, remote: Remote, file: Path, url: str = "") -> Record:
    """Compare a file with what is published, or else with what was recorded the first time.

    Args:
        path: the file as it lies there now.
        remote: what it should be.
        file: the name it has or will have; its record lies beside that.
        url: where it came from.

    Returns:
        The record, written beside `file`.

    Raises:
        DownloadError: it is another file; nothing was changed.
    """
    size = path.stat().st_size
    if remote.size_bytes is not None and size != remote.size_bytes:
        raise DownloadError(
            f"{file.name}: found {size} bytes; wanted {remote.size_bytes}, as published"
        )
    found = digests(path)
    for kind in ("sha256", "md5"):
        wanted = getattr(remote, kind)
        if wanted is not None and found[kind] != wanted:
            raise DownloadError(
                f"{file.name}: found {kind} {found[kind]}; wanted {wanted}, as published"
            )
    known = read_record(file)
    if known is not None and known.sha256 == found["sha256"]:
        return known
    if known is not None and not remote.has_checksum:
        raise DownloadError(
            f"{file.name}: found sha256 {found['sha256']}; wanted {known.sha256}, as first fetched "
            f"on {known.recorded}; if the publisher replaced the file, delete {record_path(file)}"
        )
    published = [kind for kind in ("md5", "sha256") if getattr(remote, kind) is not None]
    published += ["size"] if remote.size_bytes is not None else []
    record = Record(
        url=shown(url), size_bytes=size, sha256=found["sha256"], checked_with=" ".join(published),
        recorded=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    write_json(record_path(file), asdict(record))
    return record


def set_aside(path: Path, file: Path) -> Path:
    """Move a bad file to `<file>.bad`, in place of an older one; returns that path."""
    bad = file.with_name(f"{file.name}.bad")
    os.replace(path, bad)
    return bad


def digests(path: Path) -> dict[str, str]:
    """`md5` and `sha256` of a file, hexadecimal, in one pass."""
    hashes = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    size = path.stat().st_size
    step = progress_of(f"checking {path.name}", total=size, unit="B")
    with path.open("rb") as stream, step as done:
        while chunk := stream.read(_CHUNK_BYTES):
            for one in hashes.values():
                one.update(chunk)
            done.update(len(chunk))
    return {kind: one.hexdigest() for kind, one in hashes.items()}
