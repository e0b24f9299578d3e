"""Archives with anything in them, and that one is refused."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from unittest import mock

import pytest

from fmbseg.store import ArchiveError, archives, extract_archive

FILES = {"a.png": b"first" * 3000, "sub/größe 1.png": b"", "sub/deep/b.jpg": bytes(range(256)) * 9}
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def tar_bytes(*members, content=b"x"):
    """A tar of entries with one content: names, or headers that claim anything."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for member in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
                member.size = len(content)
            bundle.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(files):
    """A tar of name to content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files, **options):
    """A zip of name to content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def special(name, kind, target=""):
    """Header of what is no file, for `tar_bytes`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_special(mode, name="x.png", content=b"/etc/passwd"):
    """A zip with one entry of a Unix mode, such as that of a link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(info, content)
    return buffer.getvalue()


def save(tmp_path, data, name="some.archive"):
    """Write an archive into a folder; its path."""
    path = tmp_path / name
    path.write_bytes(data)
    return path


def limited(max_bytes):
    """While this is entered, an archive may unpack to so many bytes."""
    return mock.patch.object(archives, "MAX_ARCHIVE_BYTES", max_bytes)


def refused(tmp_path, data, words, max_bytes=10**9):
    """Refused with these words, nothing written outside, nothing left behind."""
    path = save(tmp_path, data)
    with pytest.raises(ArchiveError, match=words) as caught, limited(max_bytes):
        extract_archive(path, tmp_path / "out/into")
    assert "\n" not in str(caught.value)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert left <= {"some.archive", "out"}


def contents(folder):
    """Name to content of all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
