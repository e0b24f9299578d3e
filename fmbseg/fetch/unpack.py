"""Unpacking an archive of a data set: beside it, then moved into place, then marked as done."""

import contextlib
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from fmbseg.datasets.entry import Archive
from fmbseg.fetch.remote import DownloadError
from fmbseg.store import StoreError, extract_archive, flush_tree, read_json, write_json

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Done:
    """What an archive left in its place; beside the archive, `<archive>.done.json` holds it.

    Attributes:
        unpack_to: the archive's folder below the root.
        files: folder below that to the number of files directly in it.
    """

    unpack_to: str
    files: dict[str, int]


def archives_folder(root: Path) -> Path:
    """Below a data set's root: what is fetched, what is being unpacked, what is done."""
    return root / ".archives"


def fetched_bytes(archive: Archive, root: Path) -> int:
    """Size of what is fetched of an archive, whole or in part."""
    file = archives_folder(root) / archive.file_name
    parts = [file, file.with_name(f"{file.name}.part")]
    return sum(part.stat().st_size for part in parts if part.is_file())


def is_unpacked(archive: Archive, root: Path) -> bool:
    """Whether an archive was unpacked to its end, and what it brought is still there."""
    try:
        done = Done(**read_json(_beside(archive, root, ".done.json")))
    except (StoreError, TypeError):
        return False
    return done.unpack_to == archive.unpack_to and all(
        _count(root / done.unpack_to / folder) >= files for folder, files in done.files.items()
    )


def is_staged(archive: Archive, root: Path) -> bool:
    """Whether a cut run has unpacked it wholly and only the moving is left."""
    return _beside(archive, root, ".tree").is_dir()


def unpack(archive: Archive, source: Path, root: Path) -> None:
    """Unpack an archive, or copy what is none, and mark it as done.

    Everything is unpacked beside the archive and moved from there by renaming; the marker comes
    last. A killed run leaves, at worst, some files moved; the next one moves the rest.

    Args:
        archive: what it is; says where its content belongs.
        source: the file; not read when a cut run has it unpacked already.
        root: of the data set.

    Raises:
        ArchiveError: see `extract_archive`; nothing was moved.
        DiskFullError: no room; nothing was moved.
        DownloadError: something of the user's is in the way.
    """
    staging, plan = (_beside(archive, root, ending) for ending in (".tree", ".moving.json"))
    for leftover in archives_folder(root).glob(f".{staging.name}.unpacking-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not staging.is_dir():
        plan.unlink(missing_ok=True)
        if archive.file_name.endswith(_SUFFIXES):
            extract_archive(source, staging)
        else:
            partial = staging.with_name(f".{staging.name}.unpacking-{os.getpid()}")
            partial.mkdir()
            _link_or_copy(source, partial / archive.file_name)
            flush_tree(partial)
            os.rename(partial, staging)
    if not plan.is_file():
        write_json(plan, asdict(Done(archive.unpack_to, _counts(staging))))
    _merge(staging, root / archive.unpack_to)
    flush_tree(root / archive.unpack_to, contents=False)
    os.replace(plan, _beside(archive, root, ".done.json"))
    shutil.rmtree(staging, ignore_errors=True)


def _beside(archive: Archive, root: Path, ending: str) -> Path:
    """What is kept of an archive: `.tree` being unpacked, `.moving.json` and `.done.json` of it."""
    return archives_folder(root) / f"{archive.file_name}{ending}"


def _merge(source: Path, target: Path) -> None:
    """Move all of a folder into another one; what both hold is taken from the first."""
    target.mkdir(parents=True, exist_ok=True)
    for one in sorted(source.iterdir()):
        there = target / one.name
        if there.exists() and one.is_dir() != there.is_dir():
            raise DownloadError(
                f"{there}: found a {'folder' if there.is_dir() else 'file'}; the archive has the "
                "other there; move it away, then run again"
            )
        if there.is_dir():
            _merge(one, there)
        else:
            shutil.move(one, there)


def _counts(folder: Path) -> dict[str, int]:
    """Folder relative to this one to the number of files directly in it."""
    found: Counter[str] = Counter()
    for parent, _, files in os.walk(folder):
        if files:
            found[PurePosixPath(Path(parent).relative_to(folder)).as_posix()] = len(files)
    return dict(sorted(found.items()))


def _count(folder: Path) -> int:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sum(entry.is_file() for entry in entries)
    return 0


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
