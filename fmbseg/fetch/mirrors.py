"""Further addresses of the very same archives, for when the official one does not answer."""

from collections.abc import Sequence

from fmbseg.datasets.catalogue import Archive
from fmbseg.fetch.remote import Remote

_COCO_BUCKET = "https://s3.amazonaws.com/images.cocodataset.org"

MIRRORS: dict[str, tuple[str, ...]] = {
    # The official bucket by its own name, which, other than the official address, has TLS.
    "train2017.zip": (f"{_COCO_BUCKET}/zips/train2017.zip",),
    "val2017.zip": (f"{_COCO_BUCKET}/zips/val2017.zip",),
    # The copy of the book Dive into Deep Learning; the published checksum vouches for it.
    "VOCtrainval_11-May-2012.tar": (
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    ),
}
"""File name to addresses, tried after the official one; only files with a published checksum."""


def remote_of(archive: Archive, mirrors: Sequence[str]) -> Remote:
    """An archive of the catalogue as a file to fetch.

    Args:
        archive: of the catalogue.
        mirrors: addresses of folders the user names; tried first.
    """
    own = [f"{folder.rstrip('/')}/{archive.file_name}" for folder in mirrors]
    return Remote(
        urls=(*own, archive.url, *MIRRORS.get(archive.file_name, ())),
        about_bytes=archive.about_bytes,
        size_bytes=archive.size_bytes,
        md5=archive.md5,
        sha256=archive.sha256,
    )
