"""What lies in a zip or tar archive, entry by entry; nothing but plain files and folders."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fmbseg.store.names import name_problem, printable

_BLOCK_BYTES = 512
_LARGEST_READ_BYTES = 2**24
_MOST_PADDING_READS = 8
_ENCRYPTED = 0x1
_ZIP = (b"PK\3\4", b"PK\5\6")
_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_DRIVE = re.compile(r"[A-Za-z]:")
_AGAIN = "fetch it again, or pack it anew"


class ArchiveError(ValueError):
    """An archive is damaged, or holds what is not unpacked; the text names archive and entry."""


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        name: relative, with forward slashes, without `.` and `..`; safe below any folder.
        size: in bytes, as the archive says.
        stream: the content, to be read before the next entry is asked for; None for a folder.
    """

    name: str
    size: int
    stream: IO[bytes] | None


@dataclass(frozen=True)
class Contents:
    """What an archive holds.

    Attributes:
        entries: in the archive's order.
        unpacked_bytes: what the headers promise, when they can be read beforehand (zip).
        total: length of a progress bar, in bytes.
        done: position of the bar, from the number of bytes written.
    """

    entries: Iterator[Entry]
    unpacked_bytes: int | None
    total: int
    done: Callable[[int], int]


@contextlib.contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Turn whatever a parser raises on damaged data into an `ArchiveError`."""
    try:
        yield
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{archive}: damaged ({words}); {_AGAIN}") from None


def open_contents(archive: Path, raw: IO[bytes]) -> Contents:
    """Look into an archive; its format is told by content.

    Args:
        archive: its path, for messages.
        raw: the open file, at its start.

    Raises:
        ArchiveError: no archive, a damaged one, or (zip only, at once) an entry that is refused;
            a tar's entries raise when they are reached.
    """
    head = raw.read(_BLOCK_BYTES)
    raw.seek(0)
    with damage_named(archive):
        if head.startswith(_ZIP):
            return _zip_contents(archive, raw)
        openers = (o for magic, o in _DECOMPRESSORS.items() if head.startswith(magic))
        unpacked = next(openers, lambda same: same)(raw)
        block = unpacked.read(_BLOCK_BYTES)
        unpacked.seek(0)
    try:
        if block.strip(b"\0"):
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise ArchiveError(
            f"{archive}: not a zip or tar archive (tar may be packed with gzip, bzip2 or xz); "
            "unpack it yourself and give the folder"
        ) from None
    size = archive.stat().st_size
    return Contents(_tar_entries(archive, unpacked), None, size, lambda written: raw.tell())


def _zip_contents(archive: Path, raw: IO[bytes]) -> Contents:
    bundle = zipfile.ZipFile(raw)
    members = []
    for info in bundle.infolist():
        if "\0" in info.orig_filename:
            raise _refused(archive, info.orig_filename, "its name holds control characters")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            words = "a link" if kind == stat.S_IFLNK else "a device or FIFO"
            raise _refused(archive, info.filename, words)
        if info.flag_bits & _ENCRYPTED:
            raise _refused(archive, info.filename, "encrypted")
        name = _safe_name(archive, info.filename)
        if name:
            members.append((name, info))
    total = sum(info.file_size for _, info in members)
    return Contents(_zip_entries(bundle, members), total, total, lambda written: written)


def _zip_entries(
    bundle: zipfile.ZipFile, members: list[tuple[str, zipfile.ZipInfo]]
) -> Iterator[Entry]:
    for name, info in members:
        if info.is_dir():
            yield Entry(name, 0, None)
        else:
            with bundle.open(info) as stream:
                yield Entry(name, info.file_size, stream)


def _tar_entries(archive: Path, unpacked: IO[bytes]) -> Iterator[Entry]:
    stream: Any = _SmallReads(unpacked)
    with tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8") as bundle:
        while (member := bundle.next()) is not None:
            if not (member.isreg() or member.isdir()) or member.issparse():
                kind = "a link" if member.issym() or member.islnk() else "a device, FIFO or sparse"
                raise _refused(archive, member.name, kind)
            name = _safe_name(archive, member.name)
            if name:
                content = None if member.isdir() else bundle.extractfile(member)
                yield Entry(name, 0 if content is None else member.size, content)
            bundle.members.clear()  # type: ignore[attr-defined]
        stream.seek(bundle.offset)
        block = stream.read(_BLOCK_BYTES)
        if len(block) < _BLOCK_BYTES or block.strip(b"\0"):
            raise ArchiveError(f"{archive}: damaged (cut off, or a bad header inside); {_AGAIN}")
        for _ in range(_MOST_PADDING_READS):  # to the end, where the checksum is
            if not stream.read(_LARGEST_READ_BYTES):
                return
    raise ArchiveError(f"{archive}: damaged (too much behind its end); {_AGAIN}")


class _SmallReads(io.RawIOBase):
    """The same stream; a header that asks for gigabytes at once is damage, or an attack."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ_BYTES:
            raise ValueError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _safe_name(archive: Path, name: str) -> str:
    """The name without `.` and doubled slashes; empty for the archive's own top folder.

    Raises:
        ArchiveError: it would not lie below the folder, or cannot be shown.
    """
    problem = name_problem(name)
    if problem is not None:
        raise _refused(archive, name, problem)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or "\\" in name or _DRIVE.match(name) or ".." in parts:
        raise _refused(archive, name, "its name leads out of the folder")
    return "/".join(parts)


def _refused(archive: Path, name: str, what: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}: entry {printable(name)!r} is refused ({what}); only plain files and folders "
        "are unpacked, so unpack it yourself if you trust it, and give the folder"
    )
