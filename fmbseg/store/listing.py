"""Listing the pictures below a folder; what cannot be one is named with a reason, never opened."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from fmbseg.store.formats import UnreadableImageError
from fmbseg.store.images import open_regular
from fmbseg.store.names import name_problem, printable

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_BROKEN = "a broken link: what it points to does not exist"
_BAD_LINKS = {
    errno.ELOOP: "a link that leads in a circle", errno.ENOENT: _BROKEN, errno.ENOTDIR: _BROKEN
}  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """An entry of an image folder that is not used.

    Attributes:
        image: its name relative to the folder, made printable: bytes that are no UTF-8 and
            control characters stand as backslash escapes.
        reason: one short line.
    """

    image: str
    reason: str


@dataclass(frozen=True)
class ImageScan:
    """What lies in an image folder.

    Attributes:
        names: of the pictures, relative to the folder, with forward slashes, sorted.
        refused: pictures and folders that are not used, sorted by name.
    """

    names: tuple[str, ...]
    refused: tuple[Refused, ...]


def scan_images(folder: str | Path) -> ImageScan:
    """List the pictures below a folder, at any depth.

    Files are told by suffix (any case). Names with a leading dot are skipped, folders with a
    picture's suffix are folders. Links to files inside the folder count; linked folders inside it
    are not entered, as their pictures are listed where they lie.

    Refused: links that leave the folder, lead nowhere or in a circle; FIFOs, sockets and devices;
    names that are not UTF-8 or hold control characters; what may not be read; files too large for
    any picture. Listed names are regular files that could be opened just now. Content is not
    looked at. Never waits and never raises for one entry.

    Args:
        folder: where to look.

    Raises:
        NotADirectoryError: no such folder, or it may not be listed.
    """
    folder, root = Path(folder), Path(os.path.realpath(folder))
    names, refused, parents = [], [], [""]
    while parents:
        parent = parents.pop()
        try:
            with os.scandir(folder / parent) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            words = f"this folder cannot be listed ({error.strerror})"
            if not parent:
                raise NotADirectoryError(f"{folder}: {words}; wanted a folder of images") from None
            refused.append(Refused(parent, words))
            continue
        for entry in entries:
            name = f"{parent}/{entry.name}" if parent else entry.name
            try:
                kind = _kind(entry, root)
                if kind is not None and (problem := name_problem(entry.name)) is not None:
                    raise UnreadableImageError(f"{problem}; rename it")
                if kind == "folder":
                    parents.append(name)
                elif kind == "picture":
                    open_regular(entry.path).close()
                    names.append(name)
            except UnreadableImageError as error:
                refused.append(Refused(printable(name), error.reason))
    return ImageScan(tuple(sorted(names)), tuple(sorted(refused, key=lambda one: one.image)))


def list_images(folder: str | Path) -> list[str]:
    """The names alone, of what `scan_images` lists.

    Raises:
        NotADirectoryError: no such folder, or it may not be listed.
    """
    return list(scan_images(folder).names)


def _kind(entry: os.DirEntry[str], root: Path) -> Literal["folder", "picture"] | None:
    """What an entry is to be used as; None: not at all.

    Raises:
        UnreadableImageError: a link that could be a picture or a folder, and cannot be followed.
    """
    suffix = PurePosixPath(entry.name).suffix.lower()
    is_picture = suffix in IMAGE_SUFFIXES
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "picture" if is_picture else None
    try:
        entry.stat()
    except OSError as error:
        if suffix and not is_picture:
            return None
        words = f"a link that cannot be followed ({error.strerror})"
        raise UnreadableImageError(_BAD_LINKS.get(error.errno or 0, words)) from None
    if not entry.is_dir() and not is_picture:
        return None
    target = Path(os.path.realpath(entry.path))
    if not target.is_relative_to(root):
        raise UnreadableImageError(
            "a link that leaves the image folder; copy what it points to into the folder"
        )
    if not entry.is_dir():
        return "picture"
    if Path(os.path.realpath(Path(entry.path).parent)).is_relative_to(target):
        raise UnreadableImageError("a link to a folder that it lies in (a circle)")
    return None
