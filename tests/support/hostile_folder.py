"""A folder of hostile and unusual image files; a whole run over it must name exactly the bad."""

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.hostile_content import (
    SIZE_HW,
    HostileFolder,
    add_bombs,
    add_damage,
    add_depths,
    add_exif,
    add_formats,
    add_kinds,
    add_values,
)
from tests.support.hostile_pictures import saved


def make_hostile_folder(
    root: Path, world_images: Sequence[np.ndarray]
) -> tuple[dict[str, str], set[str]]:
    """Write the folder.

    Args:
        root: made when it does not exist.
        world_images: RGB pictures, at least 96 x 128 px, to make the good ones of.

    Returns:
        Name, as listings and quarantine report it, to a pattern of the reason, of every file or
        folder that must be refused; names of all pictures that must be processed.
    """
    folder = hostile_folder(root, world_images)
    return folder.bad, set(folder.good)


def hostile_folder(root: Path, world_images: Sequence[np.ndarray]) -> HostileFolder:
    """The same, with what each good picture must look like."""
    root.mkdir(parents=True, exist_ok=True)
    folder = HostileFolder(root)
    height, width = SIZE_HW
    pictures = [np.ascontiguousarray(image[:height, :width]) for image in world_images]
    assert all(picture.shape == (height, width, 3) for picture in pictures)
    add_formats(folder, pictures[0])
    add_depths(folder, pictures[-1])
    add_exif(folder, pictures[len(pictures) // 2])
    _good_names(folder, pictures)
    add_kinds(folder)
    add_damage(folder, pictures[0])
    add_bombs(folder, pictures[0])
    add_values(folder)
    _bad_links(folder, pictures[0])
    _bad_entries(folder, pictures[0])
    return folder


def _good_names(folder: HostileFolder, pictures: Sequence[np.ndarray]) -> None:
    names = [
        "UPPER.PNG", "with space .png", "-starts like an option.png", "größe äöü ß.png",
        "decomposed e\u0301.png", "composed \u00e9.png", "日本語.png", "🐟👩\u200d🚀.png",
        "<b>&amp;\"'.png", "{x} %s %(y)s [z] $HOME `id`.png", "back\\slash.png", "a:b;c|d.png",
        "no\u00a0break\u202fspace.png", "*.png", "~.png", "con.png", "two.dots..png",
        "twin.png", "twin.bmp", "Case.png", "case.png", "x" * 240 + ".png",
        "folder.png/inside.png", "söme folder [1] {x} %s/inside.png", "a/b/one.png",
        "a__b/one.png", "images/inside.png", "/".join(["deep"] * 60) + "/down.png",
        "/".join(["l" * 100] * 4) + "/long.png",
    ]  # fmt: skip
    for index, name in enumerate(names):
        rgb = pictures[index % len(pictures)]
        if (folder.root / name).exists():  # a system that tells no upper from lower case
            continue
        folder.add_good(name, saved(rgb, "bmp" if name.endswith("bmp") else "png"), rgb)
    rgb = pictures[0]
    for name, target in {"link.png": "UPPER.PNG", "a/link.png": "../UPPER.PNG"}.items():
        (folder.root / name).symlink_to(target)
        folder.good[name] = rgb
    os.link(folder.root / "UPPER.PNG", folder.root / "hard link.png")
    folder.good["hard link.png"] = rgb
    (folder.root / "a/sideways").symlink_to("../exif")  # its pictures are listed where they lie
    folder.write(".hidden.png", b"")
    folder.write(".hidden folder/a.png", b"")
    folder.write("notes.txt", b"not listed")
    os.mkfifo(folder.root / "pipe.txt")
    (folder.root / "UPPER.PNG").chmod(0o444)
    os.utime(folder.root / "Case.png", (-10_000, -10_000))
    os.utime(folder.root / "case.png", (2**34, 2**34))


def _bad_links(folder: HostileFolder, rgb: np.ndarray) -> None:
    outside = folder.root.parent / f"{folder.root.name} outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(saved(rgb, "png"))
    circle, leaves = "leads in a circle", "leaves the image folder"
    for name, (target, reason) in {
        "out.png": (outside / "secret.png", leaves),
        "out relative.png": (f"../{outside.name}/secret.png", leaves),
        "out folder": (outside, leaves),
        "out folder.png": (outside, leaves),
        "system.png": ("/etc/passwd", leaves),
        "endless.png": ("/dev/zero", leaves),
        "broken.png": ("nowhere.png", "broken link"),
        "broken folder": ("/nowhere/at/all", "broken link"),
        "itself.png": ("itself.png", circle),
        "ping.png": ("pong.png", circle),
        "pong.png": ("ping.png", circle),
        "up": (".", "a circle"),
        "a/b/up": ("../..", "a circle"),
    }.items():
        (folder.root / name).symlink_to(target)
        folder.bad[name] = reason


def _bad_entries(folder: HostileFolder, rgb: np.ndarray) -> None:
    picture, root = saved(rgb, "png"), folder.root
    os.mkfifo(root / "pipe.png")
    (root / "link to pipe.png").symlink_to("pipe.png")
    folder.bad |= {"pipe.png": "FIFO", "link to pipe.png": "FIFO"}
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket.jpg"))  # a long path would not do
        folder.bad["socket.jpg"] = "a socket, not a file"
    if os.geteuid() == 0:
        os.mknod(root / "device.png", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        folder.bad["device.png"] = "a device, not a file"
    else:
        folder.add_bad("locked.png", picture, "permission denied")
        (root / "locked.png").chmod(0)
        (root / "locked").mkdir(mode=0)
        folder.bad["locked"] = "cannot be listed"
    control, coding = "holds control characters", "is not UTF-8"
    for raw, (shown, reason) in {
        b"new\nline.png": (r"new\nline.png", control),
        b"escape\x1b[31m.png": (r"escape\x1b[31m.png", control),
        "turned \u202egnp.png".encode(): (r"turned \u202egnp.png", control),
        "line\u2028break.png".encode(): (r"line\u2028break.png", control),
        b"latin \xe4.png": (r"latin \xe4.png", coding),
        b"broken \xf0\x9f.jpg": (r"broken \xf0\x9f.jpg", coding),
        b"folder \xff/a.png": (r"folder \xff", coding),
    }.items():
        with contextlib.suppress(OSError):  # some systems have no such names
            folder.write(os.fsdecode(raw), picture)
            folder.bad[shown] = reason
    folder.bad[_too_deep(root)] = "cannot be listed"


def _too_deep(root: Path) -> str:
    """Nest folders until the system takes no longer path; the name of the first beyond it."""
    part = "d" * 200
    name, beyond = "", None
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(4096 // len(part) + 2):
        os.mkdir(part, dir_fd=descriptor)
        below = os.open(part, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
        name = f"{name}/{part}".lstrip("/")
        if beyond is None and len(os.fsencode(root / name)) >= 4096:
            beyond = name
    os.close(descriptor)
    assert beyond is not None
    return beyond
