"""An image with more patches than an encoder should see at once: overlapping tiles, stitched."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.models.images import crop_starts_px

OVERLAP = 4
"""Neighbouring tiles share a quarter of their length at least: one over this."""


@dataclass(frozen=True)
class Tile:
    """A part of a grid of patches.

    Attributes:
        top: first row.
        left: first column.
        rows: number of rows.
        cols: number of columns.
    """

    top: int
    left: int
    rows: int
    cols: int


def tiles_of(grid_hw: tuple[int, int], side: int) -> list[Tile]:
    """Cover a grid by overlapping tiles of equal size, row by row.

    Args:
        grid_hw: rows and columns of patches.
        side: a tile has no more patches than a square of this side; where the grid is narrower,
            tiles are the longer for it.

    Returns:
        One tile, the whole grid, where that has no more patches than a tile may have.
    """
    rows = min(grid_hw[0], side)
    cols = min(grid_hw[1], side * side // rows)
    rows = min(grid_hw[0], side * side // cols)
    tops, lefts = (
        crop_starts_px(length, tile, max(1, tile - tile // OVERLAP))
        for length, tile in zip(grid_hw, (rows, cols), strict=True)
    )
    return [Tile(top, left, rows, cols) for top in tops for left in lefts]


class Stitched:
    """Unit-length features of tiles, averaged where these overlap, the inner ones weighing more."""

    def __init__(self, grid_hw: tuple[int, int]) -> None:
        """Begin with no tile; `grid_hw` are rows and columns of the whole."""
        self._grid_hw, self._total = grid_hw, torch.zeros(0)

    def add(self, tile: Tile, features: Float[Tensor, "rows cols dim"]) -> None:
        """Add a tile."""
        if not len(self._total):
            self._total = features.new_zeros(*self._grid_hw, features.shape[2])
        down, across = (
            _weights(length).to(features.device, non_blocking=True)
            for length in (tile.rows, tile.cols)
        )
        place = (slice(tile.top, tile.top + tile.rows), slice(tile.left, tile.left + tile.cols))
        self._total[place] += features * down[:, None, None] * across[:, None]

    def features(self) -> Float[Tensor, "rows cols dim"]:
        """The whole, scaled to unit length again."""
        return normalize(self._total, dim=2)


def _weights(length: int) -> Float[Tensor, " length"]:
    """Rise over the overlap from the border inwards, linearly, to 1."""
    from_border = torch.arange(1.0, length + 1)
    ramp = max(length // OVERLAP, 1)
    return torch.minimum(from_border, from_border.flip(0)).div(ramp).clamp(max=1)
