"""Unpacking archives of unknown origin: all of an archive, below one folder, or nothing."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from fmbseg.progress import progress as progress_of
from fmbseg.store.archive_entries import (
    ArchiveError,
    Contents,
    Entry,
    damage_named,
    open_contents,
)
from fmbseg.store.flush import flush_names, flush_tree
from fmbseg.store.space import explain_full_disk, human_bytes, require_space

MAX_ARCHIVE_BYTES = 64 * 10**9
"""Unpacked; more is taken for a bomb unless the caller says otherwise."""
MAX_ENTRIES = 5_000_000
"""Files and folders; a small archive can hold any number of empty ones."""

_CHUNK_BYTES = 2**20
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EEXIST, errno.EINVAL, errno.EILSEQ)


def extract_archive(
    archive: str | Path,
    folder: str | Path,
    *,
    max_bytes: int = MAX_ARCHIVE_BYTES,
    progress: bool = True,
) -> list[str]:
    """Unpack a zip or tar archive (plain, gz, bz2, xz; told by content) into a new folder.

    Only plain files and folders are unpacked; anything else refuses the whole archive. Rights,
    owners and dates in the archive are not taken over. Files are written to a folder beside
    `folder`, flushed to the disk, and the folder is renamed at the end, so `folder` is complete or
    absent, after a cut of power too. Whether an unpacked
    folder is up to date, and resuming, are the caller's business: a killed call leaves
    `.<folder>.unpacking-*` behind, which may be deleted, and the next one starts afresh.

    Args:
        archive: the file.
        folder: where to; must not exist, or be empty.
        max_bytes: more than this, unpacked, is refused.
        progress: show a bar on standard error.

    Returns:
        Names of the files, relative to `folder`, with forward slashes, sorted; at least one.

    Raises:
        ArchiveError: not an archive, damaged, encrypted, too large; an entry with an absolute
            name, `..`, a backslash, a drive letter, control characters or another entry's name; a
            link, device or FIFO; no file at all; `folder` holds something.
        DiskFullError: what is inside does not fit on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise ArchiveError(f"{archive}: no such file; wanted a zip or tar archive")
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise ArchiveError(f"{folder}: exists already; delete it, or name another folder")
    what = f"the content of {archive.name}"
    with archive.open("rb") as raw:
        contents = open_contents(archive, raw)
        if contents.unpacked_bytes is not None:
            _require_small(archive, contents.unpacked_bytes, max_bytes)
            require_space(folder, contents.unpacked_bytes, what)
        partial = folder.parent / f".{folder.name}.unpacking-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with explain_full_disk(what, folder.parent):
                partial.mkdir(parents=True)
                names = _unpack(archive, contents, partial, max_bytes, progress)
                flush_tree(partial)
                os.rename(partial, folder)
                flush_names(folder.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return names


def _unpack(
    archive: Path, contents: Contents, folder: Path, max_bytes: int, progress: bool
) -> list[str]:
    files: list[str] = []
    is_folder: dict[str, bool] = {}
    written = 0
    label = f"unpacking {archive.name}"
    with progress_of(label, total=contents.total, unit="B", shown=progress) as done:
        while True:
            with damage_named(archive):
                entry = next(contents.entries, None)
            if entry is None:
                break
            _require_new(archive, entry, is_folder)
            _require_small(archive, written + entry.size, max_bytes)
            require_space(folder, entry.size, f"{entry.name} of {archive.name}")
            try:
                for size in _write(archive, entry, folder / entry.name):
                    written += size
                    _require_small(archive, written, max_bytes)
                    done.update(contents.done(written) - done.done)
            except OSError as error:
                if error.errno not in _BAD_NAMES:
                    raise
                raise ArchiveError(
                    f"{archive}: entry {entry.name!r} cannot be written ({error.strerror}); "
                    "unpack it yourself under other names, and give the folder"
                ) from None
            if entry.stream is not None:
                files.append(entry.name)
    if not files:
        raise ArchiveError(f"{archive}: holds no file; wanted an archive of images")
    return sorted(files)


def _write(archive: Path, entry: Entry, target: Path) -> Iterator[int]:
    """Write one entry, chunk by chunk; yields the bytes of each before they are written."""
    if entry.stream is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with target.open("xb") as out:
        while True:
            with damage_named(archive):
                chunk = entry.stream.read(_CHUNK_BYTES)
            if not chunk:
                break
            size += len(chunk)
            yield len(chunk)
            out.write(chunk)
    if size != entry.size:
        raise ArchiveError(
            f"{archive}: damaged (entry {entry.name!r} holds {size} bytes, its header says "
            f"{entry.size}); fetch it again, or pack it anew"
        )


def _require_new(archive: Path, entry: Entry, is_folder: dict[str, bool]) -> None:
    """Refuse a second file of a name, a file that is a folder too, and too many of either."""
    folders = entry.name.split("/")[:-1]
    above = ["/".join(folders[:depth]) for depth in range(1, len(folders) + 1)]
    twice = entry.name in is_folder and not (is_folder[entry.name] and entry.stream is None)
    if twice or not all(is_folder.setdefault(name, True) for name in above):
        raise ArchiveError(
            f"{archive}: two entries want to be {entry.name!r}; unpack it yourself and give the "
            "folder"
        )
    is_folder[entry.name] = entry.stream is None
    if len(is_folder) > MAX_ENTRIES:
        raise ArchiveError(f"{archive}: holds more than {MAX_ENTRIES} files and folders")


def _require_small(archive: Path, count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise ArchiveError(
            f"{archive}: holds more than {human_bytes(max_bytes)} unpacked, the limit; unpack it "
            "yourself if you trust it, and give the folder"
        )
