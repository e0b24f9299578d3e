"""Unpacking archives of unknown origin: all of an archive, below one folder, or nothing."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from fmbseg.progress import progress as progress_of
from fmbseg.store.flush import flush_names, flush_tree
from fmbseg.store.names import name_problem, printable
from fmbseg.store.space import explain_full_disk, human_bytes, require_space

MAX_ARCHIVE_BYTES = 64 * 10**9
"""Unpacked; more is taken for a bomb."""
MAX_ENTRIES = 5_000_000
"""Files and folders; a small archive can hold any number of empty ones."""

_ZIP = (b"PK\3\4", b"PK\5\6")
_ENCRYPTED = 0x1
_CHUNK_BYTES = 2**24
_MOST_PADDING_CHUNKS = 8
_DRIVE = re.compile(r"[A-Za-z]:")
_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_BAD_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_AGAIN = "fetch it again, or pack it anew"


class ArchiveError(ValueError):
    """An archive is damaged, or holds what is not unpacked; the text names archive and entry."""


def extract_archive(archive: str | Path, folder: str | Path) -> list[str]:
    """Unpack a zip or tar archive (plain, gz, bz2, xz; told by content) into a new folder.

    Only plain files and folders are unpacked; anything else refuses the whole archive. Rights,
    owners and dates in the archive are not taken over. Files are written to a folder beside
    `folder`, flushed to the disk, and the folder is renamed at the end, so `folder` is complete or
    absent, after a cut of power too. A killed call leaves `.<folder>.unpacking-*` behind, which
    may be deleted, and the next one starts afresh.

    Args:
        archive: the file.
        folder: where to; must not exist, or be empty.

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
    partial = folder.parent / f".{folder.name}.unpacking-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with explain_full_disk(f"the content of {archive.name}", folder.parent):
            partial.mkdir(parents=True)
            names = _unpack(archive, partial)
            flush_tree(partial)
            os.rename(partial, folder)
            flush_names(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return names


def _unpack(archive: Path, folder: Path) -> list[str]:
    size, names, unpacking = archive.stat().st_size, [], _Unpacking(archive, folder)
    bar = progress_of(f"unpacking {archive.name}", total=size, unit="B")
    with bar as done, archive.open("rb") as raw, unpacking.errors_named():
        is_zip = raw.read(4) in _ZIP
        raw.seek(0)
        for name in unpacking.zip_files(raw) if is_zip else unpacking.tar_files(raw):
            names.append(name)
            done.update(max(0, raw.tell() - done.done))
        done.update(size - done.done)
    if not names:
        raise ArchiveError(f"{archive}: holds no file; wanted an archive of images")
    return sorted(names)


@dataclass
class _Unpacking:
    """One archive on its way into a folder: what was met of it so far."""

    archive: Path
    folder: Path
    entries: int = 0
    unpacked_bytes: int = 0
    entry: str = ""

    def zip_files(self, raw: IO[bytes]) -> Iterator[str]:
        """Unpack a zip, once all its entries are admitted; yields the name of every file.

        The library writes no more of an entry than its header promised.
        """
        bundle, admitted = zipfile.ZipFile(raw), []
        for info in bundle.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "a link" if kind == stat.S_IFLNK else "a device or FIFO"
                raise self.refusal(info.filename, what)
            if info.flag_bits & _ENCRYPTED:
                raise self.refusal(info.filename, "encrypted")
            admitted.append((self.admit(info.orig_filename, info.file_size), info))
        require_space(self.folder, self.unpacked_bytes, f"the content of {self.archive.name}")
        for name, info in admitted:
            self.require_new(name, info.is_dir())
            bundle.extract(info, self.folder)
            if not info.is_dir():
                yield name

    def tar_files(self, raw: IO[bytes]) -> Iterator[str]:
        """Unpack a tar entry by entry; yields the name of every file."""
        try:
            bundle = tarfile.open(fileobj=raw, encoding="utf-8", tarinfo=_SmallHeader)  # noqa: SIM115
        except tarfile.ReadError:
            raise ArchiveError(
                f"{self.archive}: not a zip or tar archive (tar may be packed with gzip, bzip2 or "
                f"xz), or damaged; {_AGAIN}, or unpack it yourself and give the folder"
            ) from None
        with bundle:
            while (member := bundle.next()) is not None:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    link = "a link" if member.issym() or member.islnk() else ""
                    raise self.refusal(member.name, link or "a device, FIFO or sparse")
                name = self.admit(member.name, member.size)
                require_space(self.folder, member.size, f"{name} of {self.archive.name}")
                self.require_new(name, member.isdir())
                bundle.extract(member, self.folder, filter=_content_alone)
                bundle.members.clear()  # type: ignore[attr-defined]
                if member.isreg():
                    yield name
            self._require_end(bundle)

    def _require_end(self, bundle: tarfile.TarFile) -> None:
        """Refuse a tar that is cut or has a bad header inside: tarfile takes either for its end."""
        stream = bundle.fileobj
        assert stream is not None
        stream.seek(bundle.offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
            raise ArchiveError(
                f"{self.archive}: damaged (cut off, or a bad header inside); {_AGAIN}"
            )
        for _ in range(_MOST_PADDING_CHUNKS):  # to the end, where the checksum is
            if not stream.read(_CHUNK_BYTES):
                return
        raise ArchiveError(f"{self.archive}: damaged (too much behind its end); {_AGAIN}")

    def admit(self, name: str, size: int) -> str:
        """Check an entry's name and the archive's size so far, and count the entry.

        Returns:
            Its name without `.` and doubled slashes; empty for the archive's own top folder.

        Raises:
            ArchiveError: it would not lie below the folder, cannot be shown, or is too much.
        """
        problem = name_problem(name)
        if problem is not None:
            raise self.refusal(name, problem)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or "\\" in name or _DRIVE.match(name) or ".." in parts:
            raise self.refusal(name, "its name leads out of the folder")
        self.entries += 1
        self.unpacked_bytes += size
        if self.entries > MAX_ENTRIES:
            raise ArchiveError(f"{self.archive}: holds more than {MAX_ENTRIES} files and folders")
        if self.unpacked_bytes > MAX_ARCHIVE_BYTES:
            raise ArchiveError(
                f"{self.archive}: holds more than {human_bytes(MAX_ARCHIVE_BYTES)} unpacked, the "
                "limit; unpack it yourself if you trust it, and give the folder"
            )
        return "/".join(parts)

    def require_new(self, name: str, is_folder: bool) -> None:
        """Refuse a second file of a name; a folder may be named twice."""
        self.entry, target = name, self.folder / name
        if os.path.lexists(target) and not (is_folder and target.is_dir()):
            raise FileExistsError(errno.EEXIST, "exists")

    def refusal(self, name: str, what: str) -> ArchiveError:
        """The error that names an entry which is not unpacked."""
        return ArchiveError(
            f"{self.archive}: entry {printable(name)!r} is refused ({what}); only plain files and "
            "folders are unpacked, so unpack it yourself if you trust it, and give the folder"
        )

    @contextlib.contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn what the libraries raise into an `ArchiveError`; a full disk passes as it is."""
        try:
            yield
        except (ArchiveError, MemoryError):
            raise
        except Exception as error:  # parsers raise anything on damaged data
            code = error.errno if isinstance(error, OSError) else None
            if code in _TAKEN + _BAD_NAMES:
                why = "two entries want to be called so" if code in _TAKEN else os.strerror(code)
                raise ArchiveError(
                    f"{self.archive}: entry {self.entry!r} cannot be written ({why}); unpack it "
                    "yourself under other names, and give the folder"
                ) from None
            if code is not None:
                raise
            words = " ".join(str(error).split()) or type(error).__name__
            raise ArchiveError(f"{self.archive}: damaged ({words}); {_AGAIN}") from None


class _SmallHeader(tarfile.TarInfo):
    """Refuses headers that ask for gigabytes of names at once: damage, or an attack."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.size > _CHUNK_BYTES and not (found.isreg() or found.isdir()):
            raise ValueError(f"a header of {found.size} bytes")
        return found


def _content_alone(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """The filter "data" of tarfile; rights and dates are not taken over either."""
    plain = tarfile.data_filter(member, folder)
    return plain.replace(mode=None, mtime=None, deep=False)  # type: ignore[arg-type]
