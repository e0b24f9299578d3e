"""What a data set is: a lazy sequence of samples with class names."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from fmbseg.types import Image


class DatasetError(ValueError):
    """A data set cannot be used as asked; the text is one short line."""


@dataclass(frozen=True)
class Sample:
    """One image, with its labels when there are any.

    Attributes:
        image: RGB, 0 to 255.
        target: class index per pixel, IGNORE where there is no label; None without a label file.
        name: of the image, relative to the data set's image folder.
    """

    image: Image
    target: UInt8[np.ndarray, "height width"] | None
    name: str


class Dataset(ABC):
    """A sequence that reads a sample when it is asked for one.

    Attributes:
        class_names: what the indices in `target` mean.
        background_index: the class that means "none of the others"; None where no class does.
        names: of the images, in order; costs no reading.
    """

    class_names: tuple[str, ...]
    background_index: int | None = None
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such image.
            UnreadableImageError: the picture cannot be read.
            DatasetError: its labels cannot be read or do not fit.
        """
