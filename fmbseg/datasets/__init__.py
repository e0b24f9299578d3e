"""Data sets by name. A family of data sets is a file in this folder and a line in `_LOADERS`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmbseg.datasets.ade import load_ade
from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.cityscapes import load_cityscapes
from fmbseg.datasets.coco import load_coco
from fmbseg.datasets.context import load_context
from fmbseg.datasets.folder import FolderDataset
from fmbseg.datasets.miniature import MiniatureDataset
from fmbseg.datasets.voc import load_voc

__all__ = ["Dataset", "DatasetError", "Sample", "load"]

_LOADERS: dict[str, Callable[..., Dataset]] = {
    "voc21": load_voc,
    "voc20": load_voc,
    "context59": load_context,
    "context60": load_context,
    "coco_stuff171": load_coco,
    "coco_object81": load_coco,
    "coco_things80": load_coco,
    "cityscapes19": load_cityscapes,
    "cityscapes30": load_cityscapes,
    "ade150": load_ade,
}


def load(name: str, root: str | Path | None, split: str, **options: Any) -> Dataset:
    """Open a data set; images are read when they are asked for.

    Args:
        name: "folder", "miniature", or one of `fmbseg.datasets.catalogue.CATALOGUE`.
        root: "folder": holds `images/` and perhaps `labels/`, or is the image folder itself;
            "miniature": not used; a public data set: holds its official tree.
        split: "folder": a sub-folder of that name is taken when there is one; "miniature":
            pretrain, train, val or test; a public data set: train or val (VOC: trainval too).
        options: those of `FolderDataset` (class_names, labels, ignore_label, max_pixels), of
            `MiniatureDataset` (count, seed, start, thing_names, look), or of the public data
            set's loader (with_labels; COCO's things: source).

    Returns:
        A sequence of `Sample` with `.class_names`, `.names` and `.background_index`.

    Raises:
        DatasetError: an unknown name, a missing folder or class list, an incomplete tree.
    """
    if name == "miniature":
        return MiniatureDataset(split, **options)
    wanted = ["folder", "miniature", *_LOADERS]
    if name not in wanted:
        raise DatasetError(f"unknown data set {name!r}; wanted one of {wanted}")
    if root is None:
        raise DatasetError(f"the data set {name!r} needs a root; found None")
    if name == "folder":
        return FolderDataset(root, split, **options)
    return _LOADERS[name](name, root, split, **options)
