"""A folder of pictures, with label pictures beside it or without."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.label_files import read_label_file
from fmbseg.store import MAX_PIXELS, list_images, read_image
from fmbseg.types import IGNORE


class FolderDataset(Dataset):
    """Pictures of any depth below `root/images` (or `root` itself), labels as `<stem>.png`.

    A sub-folder named like the split is taken when there is one, in the images and in the labels.
    A picture without a label file has target None.

    Args:
        root: the folder.
        split: name of the sub-folder to prefer; empty takes `root` as it is: every picture below
            it, and labels only where `labels` says.
        class_names: what the numbers in the label files mean, from 0; at most 255.
        labels: folder of the label files; None takes `root/labels` when it exists.
        ignore_label: the number in label files that means "no label"; becomes IGNORE.
        max_pixels: larger pictures are not decoded.

    Raises:
        DatasetError: no such folder, no class list for the labels, or no label fits any picture.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        class_names: Sequence[str] = (),
        labels: str | Path | None = None,
        ignore_label: int = IGNORE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        root = Path(root)
        if not root.is_dir():
            raise DatasetError(f"{root}: no such folder; wanted a folder of images")
        if len(class_names) > IGNORE:
            raise DatasetError(f"found {len(class_names)} class names; wanted at most {IGNORE}")
        top = root / "images" if split and (root / "images").is_dir() else root
        self._images = _of_split(top, split)
        self._labels: Path | None = None
        if labels is not None or (split and (root / "labels").is_dir()):
            label_top = root / "labels" if labels is None else Path(labels)
            if not label_top.is_dir():
                raise DatasetError(f"{label_top}: no such folder; wanted <stem>.png label files")
            if not class_names:
                raise DatasetError(f"{label_top}: labels need class_names; found none")
            self._labels = _of_split(label_top, split)
        self._ignore_label = ignore_label
        self._max_pixels = max_pixels
        self.class_names = tuple(class_names)
        self.names = tuple(name for name in list_images(self._images) if not self._is_label(name))
        if self._labels and self.names and not any(self._label_file(n) for n in self.names):
            raise DatasetError(
                f"{self._labels}: no label file fits any of the {len(self.names)} images; "
                f"wanted for instance {Path(self.names[0]).with_suffix('.png')}"
            )

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; see `Dataset`."""
        name = self.names[index]
        image = read_image(self._images / name, max_pixels=self._max_pixels)
        path = self._label_file(name)
        target = None if path is None else self._read_target(path, image.shape[:2])
        return Sample(image, target, name)

    def _is_label(self, name: str) -> bool:
        """Whether a listed picture lies in the label folder (root = image folder + labels/)."""
        return self._labels is not None and (self._images / name).is_relative_to(self._labels)

    def _label_file(self, name: str) -> Path | None:
        if self._labels is None:
            return None
        path = (self._labels / name).with_suffix(".png")
        return path if path.is_file() else None

    def _read_target(
        self, path: Path, image_hw: tuple[int, ...]
    ) -> UInt8[np.ndarray, "height width"]:
        values = read_label_file(path).astype(np.int64)
        if values.shape != image_hw:
            raise DatasetError(
                f"{path}: found height x width {values.shape}; the image has {tuple(image_hw)}"
            )
        ignored = values == self._ignore_label
        wrong = ~ignored & ((values < 0) | (values >= len(self.class_names)))
        if wrong.any():
            raise DatasetError(
                f"{path}: found label {values[wrong][0]} on {int(wrong.sum())} pixels; wanted 0 to "
                f"{len(self.class_names) - 1}, or the ignore label {self._ignore_label}"
            )
        return np.where(ignored, IGNORE, values).astype(np.uint8)


def _of_split(folder: Path, split: str) -> Path:
    return folder / split if split and (folder / split).is_dir() else folder
