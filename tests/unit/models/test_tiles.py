"""Images of more patches than an encoder should see at once go through it in overlapping tiles."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.models.build import build_vision
from fmbseg.models.tiles import Stitched, tiles_of
from tests.support.method_fakes import (
    NAMES,
    PATCH_PX,
    ColourClip,
    ColourVision,
    identity_head,
    image,
    patch_colours,
)


class TiledColours(ColourVision):
    """Every patch is its own colour, so that a tile's features are those of the whole."""

    patch_hw = (PATCH_PX, PATCH_PX)

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def encode_tiles(self, image, tiles):
        for one in tiles:
            rows = slice(one.top * PATCH_PX, (one.top + one.rows) * PATCH_PX)
            cols = slice(one.left * PATCH_PX, (one.left + one.cols) * PATCH_PX)
            self.seen.append(image[rows, cols].shape[:2])
            yield patch_colours(image[rows, cols])


@pytest.mark.parametrize("grid_hw", [(9, 9), (3, 50), (50, 3), (1, 200), (40, 61), (12, 14)])
def test_tiles_cover_the_grid_overlap_and_are_no_larger_than_allowed(grid_hw) -> None:
    side, seen = 12, np.zeros(grid_hw, int)
    tiles = tiles_of(grid_hw, side)
    for tile in tiles:
        assert tile.rows * tile.cols <= side * side
        part = seen[tile.top : tile.top + tile.rows, tile.left : tile.left + tile.cols]
        assert part.shape == (tile.rows, tile.cols), "no tile leaves the grid"
        part += 1
    assert seen.min() >= 1
    if grid_hw[0] * grid_hw[1] <= side * side:
        assert [(tile.rows, tile.cols) for tile in tiles] == [grid_hw]
    for before, after in pairwise(tiles):
        if before.top == after.top:
            shared = before.left + before.cols - after.left
            assert shared >= before.cols // 4


def test_what_tiles_agree_on_is_kept_and_borders_weigh_less() -> None:
    whole = torch.nn.functional.normalize(torch.randn(7, 30, 5), dim=2)
    tiles, stitched, torn = tiles_of((7, 30), 8), Stitched((7, 30)), Stitched((7, 30))
    assert len(tiles) > 2
    for index, tile in enumerate(tiles):
        part = whole[tile.top : tile.top + tile.rows, tile.left : tile.left + tile.cols]
        stitched.add(tile, part)
        torn.add(tile, torch.eye(4)[index].expand(tile.rows, tile.cols, 4))
    torch.testing.assert_close(stitched.features(), whole)
    left, right = torn.features()[3, tiles[1].left : tiles[0].cols, :2].T
    assert (left.diff() < 0).all()
    assert (right.diff() > 0).all()


@pytest.mark.parametrize("tile_side_px", [8, 12, 2048])
def test_tiled_and_untiled_agree_where_a_patch_does_not_look_around(tile_side_px: int) -> None:
    vision = TiledColours()
    tiled = AlignedSegmentation(vision, identity_head(), ColourClip(), tile_side_px=tile_side_px)
    untiled = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    wide = np.tile(image(), (1, 5, 1))
    found, wanted = (one.segment(wide, NAMES, similarities=True) for one in (tiled, untiled))
    np.testing.assert_allclose(found.similarities, wanted.similarities, atol=1e-6)
    assert (found.labels == wanted.labels).all()
    assert (len(vision.seen) > 1) == (tile_side_px < 2048), "a small image is never cut"
    assert all(height * width <= tile_side_px**2 for height, width in vision.seen)


@pytest.mark.weights
def test_a_tile_of_the_whole_image_has_the_features_of_the_image() -> None:
    vision = build_vision("miniature", short_side_px=128)
    picture = np.random.default_rng(0).integers(0, 256, (150, 311, 3), dtype=np.uint8)
    grid_hw = vision.grid_hw((150, 311))
    (features,) = vision.encode_tiles(picture, tiles_of(grid_hw, 10**6))
    assert torch.equal(features, vision.encode(picture))
    parts = list(vision.encode_tiles(picture, tiles_of(grid_hw, 8)))
    assert len(parts) > 1
    assert all(part.shape[0] * part.shape[1] <= 64 for part in parts)
