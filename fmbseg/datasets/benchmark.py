"""The shape that all public data sets share once their tree was looked through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from fmbseg.datasets.base import DatasetError, Sample
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.label_files import Encoding
from fmbseg.store import MAX_PIXELS, read_image


class Targets(Protocol):
    """Gives the class index per pixel of an image by the image's name."""

    def read(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Read one target; DatasetError when that cannot be done."""
        ...

    def sources(self) -> list[Path]:
        """The files that the targets come from."""
        ...


@dataclass(frozen=True)
class LabelFiles:
    """Targets in picture files.

    Attributes:
        folder: where the files are.
        files: image name to label file, relative to the folder, and what its numbers mean.
    """

    folder: Path
    files: Mapping[str, tuple[str, Encoding]]

    def read(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Read one target; DatasetError when its file is damaged or of another encoding."""
        file, encoding = self.files[name]
        return encoding.read(self.folder / file)

    def sources(self) -> list[Path]:
        """The label files, in the order of the images."""
        return [self.folder / file for file, _ in self.files.values()]


class BenchmarkDataset:
    """Images of one split of a public data set; nothing is decoded before it is asked for.

    Attributes:
        classes: names, colours, background.
        class_names: `classes.names`.
        background_index: `classes.background_index`.
        names: of the images, relative to the data set's image folder.

    Args:
        classes: what the indices in the targets mean.
        images: the image folder.
        names: of its images, in order.
        targets: of these images; None for images alone.
    """

    def __init__(
        self, classes: ClassTable, images: Path, names: Sequence[str], targets: Targets | None
    ) -> None:
        self.classes = classes
        self.class_names = classes.names
        self.background_index = classes.background_index
        self.names = tuple(names)
        self._images = images
        self._targets = targets

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def sources(self) -> list[Path]:
        """Every file that the samples come from: what a figure depends on."""
        labels = [] if self._targets is None else self._targets.sources()
        return [*(self._images / name for name in self.names), *labels]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such image.
            UnreadableImageError: the picture cannot be read.
            DatasetError: its label file cannot be read or does not fit.
        """
        name = self.names[index]
        image = read_image(self._images / name, max_pixels=MAX_PIXELS)
        if self._targets is None:
            return Sample(image, None, name)
        target = self._targets.read(name)
        if target.shape != image.shape[:2]:
            raise DatasetError(
                f"{name}: found labels of height x width {target.shape}; the image has "
                f"{image.shape[:2]}"
            )
        return Sample(image, target, name)
