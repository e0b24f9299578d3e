"""Similarities at a size in pixels, some rows at a time: classes x pixels are never held whole.

On the CPU in float32 a row has the bits that `torch.nn.functional.interpolate` gives it when it
makes the whole map, and takes a third of the time, if there are more than three names and more than
128 columns: below that torch has other kernels, which differ in the last digit, so that whole maps
are left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional

Rows = Float[Tensor, "name rows width"]
Output = Float[Tensor, "name pixels width"]
Places = Int64[np.ndarray, " pixels"]
Shares = Float32[np.ndarray, " pixels"]


@runtime_checkable
class SimilarityMap(Protocol):
    """A cosine per name and pixel that is computed where it is asked for."""

    @property
    def names(self) -> int:
        """Number of names."""
        ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        ...

    def rows(self, top: int, bottom: int) -> Rows:
        """The rows from `top` up to `bottom`, without it, in float32."""
        ...


@dataclass(frozen=True)
class Grid:
    """Similarities that are at hand.

    Attributes:
        values: cosine per name, row and column.
    """

    values: Float[Tensor, "name height width"]

    @property
    def names(self) -> int:
        """Number of names."""
        return len(self.values)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    def rows(self, top: int, bottom: int) -> Rows:
        """See `SimilarityMap`."""
        return self.values[:, top:bottom].float()


class Upsampled:
    """Another map at another size: bilinear, pixel centres aligned (no corner alignment)."""

    def __init__(self, source: SimilarityMap, size_hw: tuple[int, int]) -> None:
        """Nothing is computed yet.

        Args:
            source: the map.
            size_hw: wanted height and width, px; larger or smaller.
        """
        self.names, self.size_hw, self.device = source.names, size_hw, source.device
        self._source = source
        self._first, self._second, self._share = _taps(source.size_hw[0], size_hw[0])

    def rows(self, top: int, bottom: int) -> Rows:
        """See `SimilarityMap`."""
        height, width = self.size_hw
        if self._source.size_hw == self.size_hw:
            return self._source.rows(top, bottom)
        by_rows = self.device.type == "cpu" and self.names > 3 and width > 128
        if (top, bottom) == (0, height) and not by_rows:
            return resize_similarities(self._source.rows(0, self._source.size_hw[0]), self.size_hw)
        start, stop = int(self._first[top]), int(self._second[bottom - 1]) + 1
        wide = resize_similarities(self._source.rows(start, stop), (stop - start, width))
        taps = (self._first[top:bottom] - start, self._second[top:bottom] - start)
        between = _rows_one_by_one if wide.device.type == "cpu" else _rows_together
        return between(wide, *taps, self._share[top:bottom])


@dataclass(frozen=True)
class WindowMean:
    """The mean of overlapping windows' similarities.

    Attributes:
        windows: of each its top, its left and its map; together they cover every pixel.
        size_hw: height and width of the whole.
    """

    windows: Sequence[tuple[int, int, SimilarityMap]]
    size_hw: tuple[int, int]

    @property
    def names(self) -> int:
        """Number of names."""
        return self.windows[0][2].names

    @property
    def device(self) -> torch.device:
        """Where the windows' numbers are."""
        return self.windows[0][2].device

    def rows(self, top: int, bottom: int) -> Rows:
        """See `SimilarityMap`."""
        shape = (self.names, bottom - top, self.size_hw[1])
        total = torch.zeros(shape, device=self.device)
        counts = np.zeros((bottom - top, self.size_hw[1]), np.float32)
        for upper, left, window in self.windows:
            height, width = window.size_hw
            first, last = max(top, upper), min(bottom, upper + height)
            if first < last:
                place = slice(first - top, last - top), slice(left, left + width)
                total[:, *place] += window.rows(first - upper, last - upper)
                counts[place] += 1
        return total.div_(torch.from_numpy(counts).to(self.device))


def resize_similarities(
    similarities: Float[Tensor, "category rows cols"], size_hw: tuple[int, int]
) -> Float[Tensor, "category height width"]:
    """Bilinear interpolation to a size in pixels, pixel centres aligned (no corner alignment)."""
    return functional.interpolate(
        similarities[None], size=size_hw, mode="bilinear", align_corners=False
    )[0]


def _rows_one_by_one(wide: Rows, first: Places, second: Places, share: Shares) -> Output:
    """Rows between two rows each, in torch's own order of operations; nothing is copied first."""
    found = wide.new_empty(len(wide), len(first), wide.shape[2])
    for row, (upper, lower, part) in enumerate(
        zip(first.tolist(), second.tolist(), share.tolist(), strict=True)
    ):
        torch.mul(wide[:, lower], part, out=found[:, row])
        found[:, row].add_(wide[:, upper], alpha=float(np.float32(1) - np.float32(part)))
    return found


def _rows_together(wide: Rows, first: Places, second: Places, share: Shares) -> Output:
    """The same to the last digit but one, in few steps, as an accelerator wants it."""
    upper, lower, part = (
        torch.from_numpy(one).to(wide.device, non_blocking=True) for one in (first, second, share)
    )
    return torch.lerp(wide.index_select(1, upper), wide.index_select(1, lower), part[:, None])


def _taps(cells: int, pixels: int) -> tuple[Places, Places, Shares]:
    """Which two cells each pixel lies between along an axis, and the share of the second.

    Source: `area_pixel_compute_source_index` of torch, in its precision.
    """
    scale = np.float64(np.float32(cells) / np.float32(pixels))
    place = ((np.arange(pixels) + 0.5) * scale - 0.5).astype(np.float32).clip(min=0)
    first = np.minimum(place.astype(np.int64), cells - 1)
    share = (place - first.astype(np.float32)).clip(0, 1).astype(np.float32)
    return first, np.minimum(first + 1, cells - 1), share
