import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.evaluate.protocol import protocol_named
from fmbseg.evaluate.sliding import SlidingSegmentation, resize_short_side, sliding_window
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.upsampling import resize_similarities
from fmbseg.miniature import world
from fmbseg.models.build import build_vision
from fmbseg.types import Image
from tests.support import method_fakes


def picture(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def channels(window: Image) -> Tensor:
    return torch.from_numpy(window.copy()).permute(2, 0, 1).float()


@pytest.mark.parametrize("size_hw", [(10, 17), (5, 5), (4, 9), (3, 2), (5, 6), (16, 5)])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_pixelwise_answers_survive_the_averaging(size_hw: tuple[int, int], stride: int) -> None:
    image = picture(*size_hw)
    found = sliding_window(image, 5, stride, channels)
    assert torch.allclose(found, channels(image), atol=1e-3)


def test_overlaps_are_averaged_and_the_last_window_ends_at_the_edge() -> None:
    """Width 7, window 4, stride 2: windows start at 0, 2 and 3; each answers its turn."""
    turns: list[tuple[int, ...]] = []

    def turn(window: Image) -> Tensor:
        turns.append(window.shape[:2])
        return torch.full((1, *window.shape[:2]), float(len(turns)))

    found = sliding_window(picture(3, 7), 4, 2, turn)
    assert turns == [(3, 4)] * 3
    assert found[0, 0].tolist() == [1, 1, 1.5, 2, 2.5, 2.5, 3]


@pytest.mark.parametrize(
    ("size_hw", "window", "stride"), [((11, 6), 4, 3), ((6, 13), 5, 4), ((3, 9), 4, 2)]
)
def test_every_pixel_is_the_mean_over_all_windows_that_hold_it(
    size_hw: tuple[int, int], window: int, stride: int
) -> None:
    """The answer depends on the whole window and on the place in it, so windows disagree."""
    image = picture(*size_hw)

    def f(part: Image) -> Tensor:
        y, x = torch.meshgrid(*map(torch.arange, part.shape[:2]), indexing="ij")
        return torch.stack([x + float(part.mean()), y * float(part[..., 0].max())])

    height, width = size_hw
    corners = []
    for top in range(0, max(1, height - window + stride), stride):
        for left in range(0, max(1, width - window + stride), stride):
            corners.append((max(0, min(top, height - window)), max(0, min(left, width - window))))
    found = sliding_window(image, window, stride, f)
    for row in range(height):
        for col in range(width):
            seen = []
            for top, left in corners:
                if top <= row < top + window and left <= col < left + window:
                    part = f(image[top : top + window, left : left + window])
                    seen.append(part[:, row - top, col - left])
            torch.testing.assert_close(found[:, row, col], torch.stack(seen).mean(0))
    assert (height - window) % stride or (width - window) % stride  # the last window is shifted


def test_a_stride_with_gaps_and_a_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match="stride_px"):
        sliding_window(picture(9, 9), 4, 5, channels)
    with pytest.raises(ValueError, match="window's size"):
        sliding_window(picture(9, 9), 4, 2, lambda window: torch.zeros(1, 2, 2))


@pytest.mark.parametrize(
    ("before", "after"), [((10, 20), (5, 10)), ((21, 7), (15, 5)), ((5, 8), (5, 8))]
)
def test_short_side_gets_the_wanted_length(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert resize_short_side(picture(*before), 5).shape == (*after, 3)


@pytest.mark.parametrize(
    ("before", "after"),
    [((10, 100), (6, 60)), ((100, 10), (60, 6)), ((10, 20), (8, 16)), ((3, 1000), (1, 60))],
)
def test_the_long_side_is_bounded_before_the_short_side_is_reached(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    assert resize_short_side(picture(*before), 8, longest_px=60).shape == (*after, 3)


def test_interpolation_is_bilinear_between_patch_centres() -> None:
    grid = torch.tensor([[[0.0, 4.0]]])
    assert resize_similarities(grid, (1, 4))[0, 0].tolist() == [0, 1, 3, 4]


def test_the_windows_of_an_image_go_through_the_encoder_together() -> None:
    several, one = method_fakes.SeveralClip(), method_fakes.ColourClip()
    found = [
        SlidingSegmentation(DenseClipSegmentation(clip), 16, 8, 4).segment(
            method_fakes.image(), method_fakes.NAMES, similarities=True
        )
        for clip in (several, one)
    ]
    assert several.together == [4, 4, 4, 3]
    np.testing.assert_array_equal(found[0].similarities, found[1].similarities)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["tcl", "sclip", "sclip_city"])
def test_label_maps_of_the_miniature_have_the_bytes_of_the_plain_loop(name: str) -> None:
    """All classes at all pixels: windows interpolated, added, divided, interpolated again."""
    vision = build_vision("miniature", short_side_px="auto")
    head = AlignmentHead(vision.dim, 24, generator=torch.Generator().manual_seed(0))
    method = AlignedSegmentation(vision, head, RandomTexts())
    classes, protocol = [f"class {k}" for k in range(40)], protocol_named(name)
    image = next(iter(world.generate(0, 1, "test"))).image
    sliding = protocol.segmenter_for(method)
    assert isinstance(sliding, SlidingSegmentation)

    def of_window(window: Image) -> Tensor:
        (grid,) = method.similarity_grids([window], classes)
        return whole(grid, window.shape[:2])

    resized = resize_short_side(image, sliding.short_side_px, sliding.longest_px)
    mean = sliding_window(resized, sliding.window_px, sliding.stride_px, of_window)
    wanted = whole(mean, image.shape[:2]).numpy()
    found = sliding.segment(image, classes, similarities=True)
    assert np.array_equal(found.similarities, wanted)
    assert np.array_equal(found.labels, wanted.argmax(0))


class RandomTexts:
    """A CLIP for its texts alone."""

    dim = 24

    def encode_text(self, names, templates=None):
        drawn = torch.randn(len(names), 24, generator=torch.Generator().manual_seed(1))
        return torch.nn.functional.normalize(drawn, dim=1)

    def encode_dense(self, image):
        raise NotImplementedError


def whole(grid: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    return torch.nn.functional.interpolate(
        grid[None], size=size_hw, mode="bilinear", align_corners=False
    )[0]
