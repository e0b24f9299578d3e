"""`install`: fetches, unpacks, converts and opens a public data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmbseg.datasets import DatasetError, load
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.datasets.entry import Archive, Entry
from fmbseg.fetch.job import Job
from fmbseg.fetch.remote import DownloadError, locked
from fmbseg.fetch.unpack import archives_folder, is_unpacked
from fmbseg.store import UnreadableImageError, write_bytes


@dataclass(frozen=True)
class Installed:
    """A data set that was opened where it lies.

    Attributes:
        images: split to number of images.
        classes: class file for runs on its images, one name a line, background left out.
        notes: what to know before comparing figures, such as a split of another size than
            published.
    """

    images: dict[str, int]
    classes: Path
    notes: tuple[str, ...]


def install(
    name: str,
    root: str | Path,
    *,
    splits: Sequence[str] = ("val",),
    keep_archives: bool = False,
    zips: str | Path | None = None,
    mirrors: Sequence[str] = (),
) -> Installed:
    """Put a public data set in place; what is in place already is left alone.

    Run again after a cut, it goes on where it was: downloads within a file, unpacking archive by
    archive, a conversion label file by label file.

    Args:
        name: of `fmbseg.datasets.catalogue.CATALOGUE`.
        root: gets the data set's official tree, and `.archives/` with what is under way.
        splits: wanted; only their archives are fetched.
        keep_archives: leave the archives in `.archives/` after unpacking.
        zips: folder of archives the user has; they are taken from there, checked, and left alone.
        mirrors: addresses of folders that hold the archives under their own names, tried first.

    Returns:
        What was opened.

    Raises:
        DownloadError: unknown name or split, no address gives an archive, it has another
            checksum or holds what is not unpacked, a login is needed, or the tree does not open;
            the text says what to do.
        ArchiveError: an archive of the user's holds what is not unpacked.
        DatasetError: the published annotations cannot be converted.
        DiskFullError: no room.
    """
    entry, root = _entry(name, splits), Path(root)
    own = None if zips is None else Path(zips)
    job = Job(entry, root, own, tuple(mirrors), keep_archives)
    with locked(archives_folder(root) / "lock", f"{name} in {root}"):
        found = opened(entry, root, splits)
        archives = job.wanted(splits)
        if isinstance(found, str) or not _complete(entry, root, found, archives):
            job.require_archives(archives)
            job.require_room(archives)
            for archive in archives:
                job.put(archive)
            found = opened(entry, root, splits)
            if isinstance(found, str) and entry.convert is not None:
                entry.convert(root)
                found = opened(entry, root, splits)
    if isinstance(found, str):
        raise DownloadError(
            f"{name}: its archives were unpacked, but {found}. Should files have been damaged "
            f"since, delete {archives_folder(root)} and run again: they are fetched and unpacked "
            "anew"
        )
    published = dict(entry.splits)
    notes = [
        f"{split}: found {count} images; published are {published[split]}"
        for split, count in found.items()
        if count != published[split]
    ]
    return Installed(found, _class_file(entry, root), tuple(notes))


def opened(entry: Entry, root: Path, splits: Sequence[str]) -> dict[str, int] | str:
    """Number of images of each split, or what keeps the tree from opening.

    Images and labels are looked for by name; the first of each split is decoded.
    """
    found = {}
    for split in splits:
        try:
            samples = load(entry.name, root, split)
            samples[0]
        except (DatasetError, UnreadableImageError) as error:
            return str(error).split(". To fetch it:")[0]
        found[split] = len(samples)
    return found


def _class_file(entry: Entry, root: Path) -> Path:
    """Write the data set's class names as `data.classes` takes them; synonyms added there stay."""
    table, path = entry.classes, root / f"{entry.name}.classes.txt"
    names = [one for k, one in enumerate(table.names) if k != table.background_index]
    if path.is_file():
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        if [line.split(",")[0].strip() for line in lines if line.strip()] == names:
            return path
    write_bytes(path, "".join(f"{one}\n" for one in names).encode())
    return path


def _entry(name: str, splits: Sequence[str]) -> Entry:
    if name not in CATALOGUE:
        raise DownloadError(f"unknown data set {name!r}; wanted one of {', '.join(CATALOGUE)}")
    known = dict(CATALOGUE[name].splits)
    for split in splits:
        if split not in known:
            raise DownloadError(f"{name}: unknown split {split!r}; wanted one of {sorted(known)}")
    return CATALOGUE[name]


def _complete(entry: Entry, root: Path, found: dict[str, int], archives: Sequence[Archive]) -> bool:
    """Whether a tree that opens is all of the data set, and not what a cut copy left of it."""
    published = dict(entry.splits)
    if all(count == published[split] for split, count in found.items()):
        return True
    return all(is_unpacked(archive, root) for archive in archives)
