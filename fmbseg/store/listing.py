"""Listing the pictures below a folder; what cannot be one is named with a reason, never opened."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fmbseg.store.formats import UnreadableImageError
from fmbseg.store.images import open_regular
from fmbseg.store.names import name_problem, printable

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


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
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder; wanted a folder of images")
    root = Path(os.path.realpath(folder))
    names: list[str] = []
    refused: list[Refused] = []
    folders = [""]
    while folders:
        parent = folders.pop()
        try:
            with os.scandir(folder / parent) as listing:
                entries = list(listing)
        except OSError as error:
            if not parent:
                raise NotADirectoryError(
                    f"{folder}: this folder cannot be listed ({error.strerror}); check its rights"
                ) from None
            refused.append(Refused(parent, f"this folder cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{parent}/{entry.name}" if parent else entry.name
            try:
                use = _use_of(entry, root)
                problem = name_problem(entry.name)
                if problem is not None and use != "none":
                    raise UnreadableImageError(f"{problem}; rename it")
                if use == "enter":
                    folders.append(name)
                elif use == "list":
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


def _use_of(entry: os.DirEntry[str], root: Path) -> str:
    """What to do with an entry: "enter" the folder, "list" the file, or "none".

    Raises:
        UnreadableImageError: a link that could be a picture or a folder, and cannot be followed.
    """
    suffix = PurePosixPath(entry.name).suffix.lower()
    is_picture = suffix in IMAGE_SUFFIXES
    try:
        if not entry.is_symlink():
            return "enter" if entry.is_dir() else "list" if is_picture else "none"
        is_folder = stat.S_ISDIR(entry.stat().st_mode)
    except OSError as error:
        if not is_picture and suffix:
            return "none"
        if error.errno == errno.ELOOP:
            raise UnreadableImageError("a link that leads in a circle") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise UnreadableImageError("a broken link: what it points to does not exist") from None
        raise UnreadableImageError(f"a link that cannot be followed ({error.strerror})") from None
    if not is_folder and not is_picture:
        return "none"
    target = Path(os.path.realpath(entry.path))
    if not target.is_relative_to(root):
        raise UnreadableImageError(
            "a link that leaves the image folder; copy what it points to into the folder"
        )
    if is_folder and Path(os.path.realpath(Path(entry.path).parent)).is_relative_to(target):
        raise UnreadableImageError("a link to a folder that it lies in (a circle)")
    return "none" if is_folder else "list"
