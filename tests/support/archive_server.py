"""Official trees in archives, served on loopback in place of the catalogue's addresses."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.datasets.entry import Archive
from fmbseg.fetch import install
from tests.support.http_server import FileServer


def zipped(folder: Path, *tops: str) -> bytes:
    """These folders and files below `folder`, as a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for top in tops:
            found = folder / top
            for path in [found] if found.is_file() else sorted(found.rglob("*")):
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


def tarred(folder: Path, *tops: str, mode: str = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for top in tops:
            archive.add(folder / top, top)
    return content.getvalue()


def catalogue(
    monkeypatch: pytest.MonkeyPatch, server: FileServer, name: str,
    contents: dict[str, bytes | None], *, published: bool = True, **how: object,
) -> None:  # fmt: skip
    """Let the catalogue's entry name archives on the server; None stands for a dead address."""

    def redirected(archive: Archive) -> Archive:
        content = contents.get(archive.file_name)
        path = f"/{archive.file_name}"
        server.paths.pop(path, None)
        url = server.url(path) if content is None else server.serve(path, content, **how)
        plain = replace(archive, urls=(url,), size_bytes=None, md5=None, sha256=None)
        plain = replace(plain, about_bytes=None)
        if content is None:
            return plain
        plain = replace(plain, about_bytes=len(content))
        if not published:
            return plain
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        return replace(plain, size_bytes=len(content), md5=md5, sha256=sha256)

    entry = CATALOGUE[name]
    archives = tuple(redirected(archive) for archive in entry.archives)
    monkeypatch.setitem(CATALOGUE, name, replace(entry, archives=archives))


def get(name: str, root: Path, **options: object):
    return install(name, root, **options)


def listing(root: Path) -> set[str]:
    """Every file below a root, but for what lies among the archives, and class files."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return {one for one in found if not one.startswith(".archives/") and "classes.txt" not in one}


def in_archives_folder(root: Path) -> set[str]:
    names = {path.name for path in (root / ".archives").iterdir()}
    return {name for name in names if not name.endswith("lock")}
