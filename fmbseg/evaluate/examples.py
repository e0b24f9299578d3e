"""Which images of an evaluation are worth looking at: those with the best and the worst score."""

import bisect
from dataclasses import dataclass
from typing import Generic, Literal, Self, TypeVar

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image as PilImage

from fmbseg.types import Image

Side = Literal["worst", "best"]
Kept = TypeVar("Kept")

MAX_SIDE_PX = 1024
"""Longest side of a picture that is kept; a larger one is for files, not for eyes."""


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """An image that was scored, no larger than MAX_SIDE_PX.

    Attributes:
        name: of the image.
        image: RGB.
        predicted: class index per pixel, or IGNORE.
        truth: likewise, as it was scored.
    """

    name: str
    image: Image
    predicted: UInt8[np.ndarray, "height width"]
    truth: UInt8[np.ndarray, "height width"]

    @classmethod
    def reduced(
        cls,
        name: str,
        image: Image,
        predicted: Integer[np.ndarray, "height width"],
        truth: Integer[np.ndarray, "height width"],
    ) -> Self:
        """Shrink a large image, labels by their nearest pixel."""
        labels = [one.astype(np.uint8) for one in (predicted, truth)]
        height, width = image.shape[:2]
        scale = MAX_SIDE_PX / max(height, width)
        if scale >= 1:
            return cls(name, image, *labels)
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        small = PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BOX)
        nearest = [
            np.asarray(PilImage.fromarray(one).resize(size_wh, PilImage.Resampling.NEAREST))
            for one in labels
        ]
        return cls(name, np.asarray(small), *nearest)


class Extremes(Generic[Kept]):
    """Keeps the images with the lowest and the highest scores, each once.

    At most `wanted` images and the one being looked at are held, whatever their number; what is
    kept depends on scores and positions alone, not on the order of looking.
    """

    def __init__(self, wanted: int) -> None:
        """Start empty.

        Args:
            wanted: images to keep; one half of them is the worst, the rest (one more, where
                `wanted` is odd) the best.
        """
        self._wanted = wanted
        self._kept: list[tuple[float, int, Kept]] = []

    def add(self, score: float, position: int, kept: Kept) -> None:
        """Look at one more image.

        Args:
            score: any finite number.
            position: of the image in its data set; decides between equal scores.
            kept: what is kept of it.
        """
        bisect.insort(self._kept, (score, position, kept), key=lambda entry: entry[:2])
        if len(self._kept) > self._wanted:
            del self._kept[self._wanted // 2]

    def chosen(self) -> list[tuple[Side, int, Kept]]:
        """Side, rank and what was kept: the worst from rank 1 on, then the best from rank 1 on."""
        half = len(self._kept) // 2
        worst, best = self._kept[:half], self._kept[half:][::-1]
        return [
            *(("worst", rank, kept) for rank, (_, _, kept) in enumerate(worst, 1)),
            *(("best", rank, kept) for rank, (_, _, kept) in enumerate(best, 1)),
        ]
