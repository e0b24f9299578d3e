"""Large images in overlapping windows, and how similarities on a grid become labels of pixels."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from fmbseg.evaluate.segmentation import Prompts, Segmentation, ask, needs_image_labels
from fmbseg.types import Image, LabelMap

_MAX_ELEMENTS = 2**25
"""Classes x pixels that are interpolated at once: 128 MB."""


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
    if not 1 <= stride_px <= window_px:
        raise ValueError(f"stride_px: found {stride_px}; wanted 1 to window_px ({window_px})")
    height, width = image.shape[:2]
    total: Tensor | None = None
    counts = torch.zeros(height, width)
    for top in _starts(height, window_px, stride_px):
        for left in _starts(width, window_px, stride_px):
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


def resize_short_side(image: Image, px: int, longest_px: int | None = None) -> Image:
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


def resize_similarities(
    similarities: Float[Tensor, "category rows cols"], size_hw: tuple[int, int]
) -> Float[Tensor, "category height width"]:
    """Bilinear interpolation to a size in pixels, pixel centres aligned (no corner alignment)."""
    return functional.interpolate(
        similarities[None], size=size_hw, mode="bilinear", align_corners=False
    )[0]


def label_pixels(
    grid: Float[Tensor, "category rows cols"],
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    similarities: bool = False,
    max_elements: int = _MAX_ELEMENTS,
) -> LabelMap:
    """Interpolate similarities to the image's size and take the best class per pixel.

    Without `similarities` this goes class group by class group, so that memory is bounded however
    many classes and pixels there are; the answer is the same. Ties go to the lower index.

    Args:
        grid: cosine per class and patch.
        image_hw: wanted size, px.
        class_names: one per class.
        similarities: keep the interpolated ones in the answer.
        max_elements: classes x pixels to hold at once.

    Paper: section 3.3, bilinear interpolation of the similarities, then argmax.
    """
    names = tuple(class_names)
    if similarities:
        full = resize_similarities(grid.float(), image_hw)
        return LabelMap(full.argmax(0).int().numpy(), names, full.numpy())
    group = max(1, max_elements // (image_hw[0] * image_hw[1]))
    best, labels = resize_similarities(grid[:group].float(), image_hw).max(0)
    for start in range(group, len(grid), group):
        value, index = resize_similarities(grid[start : start + group].float(), image_hw).max(0)
        better = value > best
        best = torch.where(better, value, best)
        labels = torch.where(better, index + start, labels)
    return LabelMap(labels.int().numpy(), names)


class SlidingSegmentation:
    """Another method in overlapping windows of the resized image.

    Attributes:
        name: of the inner method.

    Paper: section 4, after the protocol of TCL.
    """

    def __init__(
        self,
        inner: Segmentation,
        short_side_px: int,
        window_px: int,
        stride_px: int,
        longest_px: int | None = None,
    ) -> None:
        """Wrap a method that answers with similarities; see `resize_short_side` for the sizes."""
        self.name = inner.name
        self._inner = inner
        self._short_side_px, self._longest_px = short_side_px, longest_px
        self._window_px, self._stride_px = window_px, stride_px

    @property
    def needs_image_labels(self) -> bool:
        """Whether the inner method does."""
        return needs_image_labels(self._inner)

    def prompted(self, prompts: Prompts) -> Self:
        """The same windows of the method prompted anew."""
        return type(self)(
            self._inner.prompted(prompts),
            self._short_side_px,
            self._window_px,
            self._stride_px,
            self._longest_px,
        )

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

        def similarities_of(window: Image) -> Tensor:
            found = ask(
                self._inner, window, class_names, similarities=True, present=present
            ).similarities
            if found is None:
                raise ValueError(f"{self.name} has no similarities to average; use protocol whole")
            return torch.from_numpy(np.asarray(found))

        resized = resize_short_side(image, self._short_side_px, self._longest_px)
        averaged = sliding_window(resized, self._window_px, self._stride_px, similarities_of)
        return label_pixels(averaged, image.shape[:2], class_names, similarities=similarities)


def _starts(length_px: int, window_px: int, stride_px: int) -> list[int]:
    last = max(0, length_px - window_px)
    return [*range(0, last, stride_px), last]
