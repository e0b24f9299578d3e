"""Data sets by name. A data set is a file in this folder and a line in `load`."""

from pathlib import Path
from typing import Any

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.folder import FolderDataset
from fmbseg.datasets.miniature import MiniatureDataset

__all__ = ["Dataset", "DatasetError", "Sample", "load"]


def load(name: str, root: str | Path | None, split: str, **options: Any) -> Dataset:
    """Open a data set; images are read when they are asked for.

    Args:
        name: "folder" or "miniature".
        root: "folder": holds `images/` and perhaps `labels/`, or is the image folder itself;
            "miniature": not used.
        split: "folder": a sub-folder of that name is taken when there is one; "miniature":
            pretrain, train, val or test.
        options: those of `FolderDataset` (class_names, labels, ignore_label, max_pixels) or
            `MiniatureDataset` (count, seed, start, thing_names, look).

    Returns:
        A sequence of `Sample` with `.class_names` and `.names`.

    Raises:
        DatasetError: an unknown name, a missing folder or class list.
    """
    if name == "miniature":
        return MiniatureDataset(split, **options)
    if name == "folder":
        if root is None:
            raise DatasetError("the data set 'folder' needs a root; found None")
        return FolderDataset(root, split, **options)
    raise DatasetError(f"unknown data set {name!r}; wanted one of ['folder', 'miniature']")
