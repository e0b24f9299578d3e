"""Random parts of pictures, mirrored or not, for a training that sees others in every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_TRIES = 8


@dataclass(frozen=True)
class Window:
    """A part of a picture.

    Attributes:
        rows: of pixels.
        cols: of pixels.
        mirrored: left and right change places.
    """

    rows: slice
    cols: slice
    mirrored: bool

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """That part of `[height, width, ...]`: of an image, or of its map of labels."""
        part = pixels[self.rows, self.cols]
        return np.ascontiguousarray(part[:, ::-1] if self.mirrored else part)


def draw_windows(
    rng: np.random.Generator, size_hw: tuple[int, int], flip: bool, min_scale: float
) -> Iterator[Window]:
    """Parts of a picture's own shape, one after the other; the last one is all of it.

    Args:
        rng: decides all of it.
        size_hw: of the picture, px.
        flip: half of them are mirrored.
        min_scale: their sides are at least this fraction of the picture's, up to 1, evenly drawn.
    """
    height, width = size_hw
    for attempt in range(_TRIES + 1):
        scale = rng.uniform(min_scale, 1.0) if attempt < _TRIES else 1.0
        high, wide = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = rng.integers(height - high + 1), rng.integers(width - wide + 1)
        mirrored = flip and bool(rng.random() < 0.5)
        yield Window(slice(top, top + high), slice(left, left + wide), mirrored)
