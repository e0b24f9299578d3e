"""Data sets by name: a folder of images, the miniature, and the public ones of `CATALOGUE`."""

from pathlib import Path
from typing import Any

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.datasets.folder import FolderDataset
from fmbseg.datasets.miniature import MiniatureDataset


def load(name: str, root: str | Path | None, split: str, **options: Any) -> Dataset:
    """Open a data set; images are read when they are asked for.

    Args:
        name: "folder", "miniature", or a public data set of `CATALOGUE`.
        root: "folder": holds `images/` and perhaps `labels/`, or is the image folder itself;
            "miniature": not used; a public data set: holds its official tree.
        split: "folder": a sub-folder of that name is taken when there is one; "miniature":
            pretrain, train, val or test; a public data set: train or val (VOC: trainval too).
        options: those of `FolderDataset` (class_names, labels, ignore_label, max_pixels), of
            `MiniatureDataset` (count, seed, thing_names, look), or of the public data
            set's loader (with_labels).

    Returns:
        A sequence of `Sample` with `.class_names`, `.names` and `.background_index`.

    Raises:
        DatasetError: an unknown name, a missing folder or class list, an incomplete tree.
    """
    if name == "miniature":
        return MiniatureDataset(split, **options)
    wanted = ["folder", "miniature", *CATALOGUE]
    if name not in wanted:
        raise DatasetError(f"unknown data set {name!r}; wanted one of {wanted}")
    if root is None:
        raise DatasetError(f"the data set {name!r} needs a root; found None")
    if name == "folder":
        return FolderDataset(root, split, **options)
    return CATALOGUE[name].load(name, root, split, **options)
