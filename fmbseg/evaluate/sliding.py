"""Any method in overlapping windows of the resized image, as protocols for large images ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor

from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.segmentation import (
    PatchSegmentation,
    Prompts,
    Segmentation,
    ask,
    needs_image_labels,
)
from fmbseg.methods.upsampling import Grid, SimilarityMap, Upsampled, WindowMean
from fmbseg.models.images import crop_starts_px
from fmbseg.types import Image, LabelMap


def sliding_window(
    image: Image,
    window_px: int,
    stride_px: int,
    f: Callable[[Image], Float[Tensor, "category window_height window_width"]],
) -> Float[Tensor, "category height width"]:
    """Run `f` on overlapping windows and average where they overlap.

    The last window of a row or column is moved back to end at the image's edge, so every pixel is
    covered and every window is whole; only an image smaller than the window gives a smaller one.

    Args:
        image: RGB.
        window_px: side of the square window.
        stride_px: step between windows, at most `window_px`.
        f: similarities per class and pixel of one window, at the window's size.

    Returns:
        The mean over the windows that hold the pixel.

    Raises:
        ValueError: the stride is 0 or leaves gaps, or `f` answers at another size.

    Paper: section 4, after the protocol of TCL (short side 448, window 448, stride 224).
    """
    height, width = image.shape[:2]
    total: Tensor | None = None
    counts = torch.zeros(height, width)
    for top, left in window_corners((height, width), window_px, stride_px):
        window = image[top : top + window_px, left : left + window_px]
        found = f(np.ascontiguousarray(window))
        if tuple(found.shape[1:]) != window.shape[:2]:
            raise ValueError(
                f"f: answered at {tuple(found.shape[1:])}; wanted the window's size "
                f"{window.shape[:2]}"
            )
        if total is None:
            total = torch.zeros(len(found), height, width)
        rows, cols = slice(top, top + window_px), slice(left, left + window_px)
        total[:, rows, cols] += found.float().cpu()
        counts[rows, cols] += 1
    assert total is not None
    return total / counts


def resize_short_side(
    image: Image, px: int, longest_px: int | None = None
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Scale the image, aspect kept, so that its shorter side has `px` pixels (bilinear).

    Args:
        image: RGB.
        px: wanted short side.
        longest_px: the long side may not exceed it; the short side then stays below `px`.

    Source: mmcv's `imrescale` into (longest, short), its rounding included.
    """
    height, width = image.shape[:2]
    scale = px / min(height, width)
    if longest_px is not None:
        scale = min(scale, longest_px / max(height, width))
    size_wh = (max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5)))
    if size_wh == (width, height):
        return image
    return np.asarray(PilImage.fromarray(image).resize(size_wh, PilImage.Resampling.BILINEAR))


@dataclass
class SlidingSegmentation:
    """Another method in overlapping windows of the resized image.

    Attributes:
        inner: the method, which answers with similarities.
        short_side_px: wanted short side of the image; see `resize_short_side`.
        window_px: side of the windows; see `sliding_window`.
        stride_px: step between them.
        longest_px: bound of the long side.
        name: of the inner method.
        needs_image_labels: whether the inner method does.

    Paper: section 4, after the protocol of TCL.
    """

    inner: Segmentation
    short_side_px: int
    window_px: int
    stride_px: int
    longest_px: int | None = None

    def __post_init__(self) -> None:
        self.name = self.inner.name
        self.needs_image_labels = needs_image_labels(self.inner)

    def prompted(self, prompts: Prompts) -> Self:
        """The same windows of the method prompted anew."""
        return replace(self, inner=self.inner.prompted(prompts))

    def segment(
        self,
        image: Image,
        class_names: Sequence[str],
        *,
        similarities: bool = False,
        present: Sequence[int] | None = None,
    ) -> LabelMap:
        """Average the windows' similarities, interpolate to the image's size, take the best.

        Args:
            image: RGB.
            class_names: plain names.
            similarities: keep the averaged and interpolated ones in the answer.
            present: classes in the whole image; every window is told the same.

        Raises:
            ValueError: the inner method has no similarities, or no use for `present`.
        """
        averaged = self.similarity_map(image, class_names, present)
        return label_pixels(averaged, image.shape[:2], class_names, similarities=similarities)

    def similarity_map(
        self, image: Image, class_names: Sequence[str], present: Sequence[int] | None = None
    ) -> SimilarityMap:
        """The windows' average, at the resized image's size; see `segment`."""
        resized = resize_short_side(image, self.short_side_px, self.longest_px)
        if isinstance(self.inner, PatchSegmentation) and present is None:
            return self._mean_of_patches(self.inner, resized, class_names)

        def similarities_of(window: Image) -> Tensor:
            found = ask(self.inner, window, class_names, similarities=True, present=present)
            if found.similarities is None:
                raise ValueError(f"{self.name} has no similarities to average; use protocol whole")
            return torch.from_numpy(np.asarray(found.similarities))

        return Grid(sliding_window(resized, self.window_px, self.stride_px, similarities_of))

    def _mean_of_patches(
        self, method: PatchSegmentation, image: Image, class_names: Sequence[str]
    ) -> WindowMean:
        """The windows' mean, of which only the similarities of patches are held."""
        places = [
            (top, left, image[top : top + self.window_px, left : left + self.window_px])
            for top, left in window_corners(image.shape[:2], self.window_px, self.stride_px)
        ]
        grids = method.similarity_grids([window for _, _, window in places], class_names)
        return WindowMean(
            [
                (top, left, Upsampled(Grid(grid), window.shape[:2]))
                for (top, left, window), grid in zip(places, grids, strict=True)
            ],
            image.shape[:2],
        )


def window_corners(
    image_hw: tuple[int, int], window_px: int, stride_px: int
) -> list[tuple[int, int]]:
    """Top and left of all windows, row by row; see `sliding_window`.

    Raises:
        ValueError: the stride is 0 or leaves gaps.
    """
    if not 1 <= stride_px <= window_px:
        raise ValueError(f"stride_px: found {stride_px}; wanted 1 to window_px ({window_px})")
    tops, lefts = (crop_starts_px(side, window_px, stride_px) for side in image_hw)
    return [(top, left) for top in tops for left in lefts]
