"""Exact areas: how much of each cell of a grid lies on each pixel."""

import numpy as np
from jaxtyping import Float64


def overlap(cells: int, pixels: int) -> Float64[np.ndarray, "cells pixels"]:
    """Overlap of each of `cells` equal cells with each of `pixels` equal pixels along one axis.

    Args:
        cells: number of cells across the axis.
        pixels: number of pixels across the same axis.

    Returns:
        Lengths in units of 1/cells of a pixel: whole numbers, so sums of products stay exact.
        Every column sums to `cells`, every row to `pixels`.
    """
    starts = np.arange(cells)[:, None] * pixels
    lefts = np.arange(pixels)[None, :] * cells
    ends = np.minimum(starts + pixels, lefts + cells)
    lengths: Float64[np.ndarray, "cells pixels"] = np.maximum(
        ends - np.maximum(starts, lefts), 0
    ).astype(np.float64)
    return lengths
