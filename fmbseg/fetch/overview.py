"""What the catalogue offers and what of it lies below a root; nothing is fetched."""

from dataclasses import dataclass
from pathlib import Path

from fmbseg.datasets.entry import Entry
from fmbseg.fetch.install import opened
from fmbseg.fetch.unpack import fetched_bytes, is_unpacked


@dataclass(frozen=True)
class SplitOverview:
    """One split of a data set.

    Attributes:
        split: its name.
        published: number of images, as published.
        images: number of images that open below the root; None when it does not open.
        disk_bytes: room the split takes, about, archives deleted: photographs and label pictures
            hardly shrink in an archive.
        fetch_bytes: what is left to download, about, other splits' archives not counted.
        unknown_size: whether the size of an archive is unknown and counted as nothing.
    """

    split: str
    published: int
    images: int | None
    disk_bytes: int
    fetch_bytes: int
    unknown_size: bool


def overview(entry: Entry, root: str | Path) -> list[SplitOverview]:
    """Look a data set's splits up below a root, in the catalogue's order."""
    root = Path(root)
    found = []
    for split, published in entry.splits:
        archives = entry.needed([split])
        here = opened(entry, root, [split])
        images = None if isinstance(here, str) else here[split]
        left = 0
        for archive in archives if images is None else ():
            if not is_unpacked(archive, root):
                left += max(0, (archive.about_bytes or 0) - fetched_bytes(archive, root))
        found.append(
            SplitOverview(
                split, published, images, sum(one.about_bytes or 0 for one in archives), left,
                any(archive.about_bytes is None for archive in archives),
            )
        )  # fmt: skip
    return found
