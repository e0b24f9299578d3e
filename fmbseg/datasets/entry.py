"""What is known of a public data set: how it opens, where it comes from, on which terms."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset
from fmbseg.datasets.classes import ClassTable

MB = 1_000_000


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        urls: addresses of the same bytes in the order of trying, http or https.
        about_bytes: size to reckon with before a server has told the real one.
        size_bytes: exact size, where it is published.
        md5: hexadecimal, where published.
        sha256: hexadecimal, where published.
    """

    urls: tuple[str, ...]
    about_bytes: int | None = None
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def has_checksum(self) -> bool:
        """Whether the publisher says what the bytes are."""
        return self.md5 is not None or self.sha256 is not None


@dataclass(frozen=True, kw_only=True)
class Archive(Remote):
    """A file to fetch and unpack; its first address is the official one.

    Further ones are tried after it, only where a checksum is published. Without checksums that of
    the first good download is recorded beside the file, and compared from then on.

    Attributes:
        file_name: as it is saved.
        unpack_to: folder below the data set's root where it is unpacked, or put when it is no
            archive; "." is the root.
        splits: the splits that need it.
        instead_of: file name of the archive it can stand in for; "" when it is needed itself.
        login: only an account on the site opens it; the address is the page that leads to it.
    """

    file_name: str
    unpack_to: str = "."
    splits: tuple[str, ...] = ("train", "val")
    instead_of: str = ""
    login: bool = False


@dataclass(frozen=True)
class Entry:
    """One data set under one evaluation protocol.

    Attributes:
        name: as `fmbseg.datasets.load` takes it.
        load: opens the data set's official tree. Called with the name; `root`, which holds the
            tree's top folder, or is it; `split`, by our name or the official one; `with_labels`,
            where False asks for images alone and no label file need be there. DatasetError: an
            unknown split, or an incomplete tree, all that is missing named.
        title: for people.
        classes: names, background.
        splits: name and number of images as published, to compare a tree with; count what is
            loaded before a figure is called comparable.
        licence: of images and annotations, in short.
        home: page of the data set.
        archives: everything to fetch, alternatives among it.
        column: of the paper's table; None when the paper has none.
        background: what becomes of pixels that belong to none of the things named.
        notes: what to know before fetching or comparing; one sentence each.
        convert: called with the root after unpacking, where label files have to be made from what
            is published; the archives named by `instead_of` then give the same data set.
    """

    name: str
    load: Callable[..., BenchmarkDataset]
    title: str
    classes: ClassTable
    splits: tuple[tuple[str, int], ...]
    licence: str
    home: str
    archives: tuple[Archive, ...]
    column: str | None
    background: str
    notes: tuple[str, ...] = ()
    convert: Callable[[Path], object] | None = None

    def needed(self, splits: Iterable[str]) -> tuple[Archive, ...]:
        """The archives that these splits need, alternatives left out."""
        wanted = set(splits)
        return tuple(
            archive
            for archive in self.archives
            if not archive.instead_of and wanted & {*archive.splits}
        )
