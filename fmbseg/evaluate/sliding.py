"""Large images in overlapping windows, and the resizing that goes with it."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from fmbseg.types import Image


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


def resize_short_side(image: Image, px: int) -> Image:
    """Scale the image, aspect kept, so that its shorter side has `px` pixels (bilinear)."""
    height, width = image.shape[:2]
    scale = px / min(height, width)
    size_wh = (max(px, round(width * scale)), max(px, round(height * scale)))
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


def _starts(length_px: int, window_px: int, stride_px: int) -> list[int]:
    last = max(0, length_px - window_px)
    return [*range(0, last, stride_px), last]
