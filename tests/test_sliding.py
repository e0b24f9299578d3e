import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg.evaluate.sliding import resize_short_side, resize_similarities, sliding_window
from fmbseg.types import Image


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


def test_interpolation_is_bilinear_between_patch_centres() -> None:
    grid = torch.tensor([[[0.0, 4.0]]])
    assert resize_similarities(grid, (1, 4))[0, 0].tolist() == [0, 1, 3, 4]
