"""Rows of similarities: the same bits as the whole map at once, and never the whole map."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fmbseg.evaluate.sliding import SlidingSegmentation
from fmbseg.methods import pixels, upsampling
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.pixels import best_name, label_pixels
from fmbseg.methods.upsampling import Grid, Upsampled, WindowMean
from tests.support.method_fakes import NAMES, ColourClip, image

SIZES = [((3, 5), (120, 90)), ((37, 49), (480, 640)), ((90, 70), (61, 130)), ((2, 2), (70, 140))]


def whole(grid: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return interpolate(grid[None], size=size_hw, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(("cells_hw", "size_hw"), SIZES)
def test_rows_have_the_bits_of_the_whole_map(cells_hw, size_hw) -> None:
    grid = torch.randn(4, *cells_hw)
    wanted, found = whole(grid, size_hw), Upsampled(Grid(grid), size_hw)
    for top, bottom in ((0, 1), (7, 20), (size_hw[0] - 3, size_hw[0]), (0, size_hw[0])):
        assert torch.equal(found.rows(top, bottom), wanted[:, top:bottom])


def test_an_accelerator_interpolates_the_same_rows_in_few_steps(monkeypatch) -> None:
    grid = torch.randn(4, 37, 9)
    monkeypatch.setattr(upsampling, "_rows_one_by_one", upsampling._rows_together)
    found = Upsampled(Grid(grid), (480, 200)).rows(11, 300)
    torch.testing.assert_close(found, whole(grid, (480, 200))[:, 11:300])


def test_the_mean_of_windows_has_the_bits_of_a_canvas() -> None:
    """Windows of 90 x 130 px at a stride that leaves a shifted last one; 163 x 291 px in all."""
    places = [(top, left) for top in (0, 60, 73) for left in (0, 95, 161)]
    grids = [torch.randn(4, 5, 6) for _ in places]
    total, counts = torch.zeros(4, 163, 291), torch.zeros(163, 291)
    for (top, left), grid in zip(places, grids, strict=True):
        total[:, top : top + 90, left : left + 130] += whole(grid, (90, 130))
        counts[top : top + 90, left : left + 130] += 1
    windows = [Upsampled(Grid(grid), (90, 130)) for grid in grids]
    mean = WindowMean([(*at, one) for at, one in zip(places, windows, strict=True)], (163, 291))
    wanted = total / counts
    for top in range(0, 163, 9):
        assert torch.equal(mean.rows(top, min(top + 9, 163)), wanted[:, top : top + 9])
    answer = label_pixels(mean, (146, 97), list("abcd"), similarities=True)
    assert np.array_equal(answer.similarities, whole(wanted, (146, 97)).numpy())
    assert np.array_equal(answer.labels, answer.similarities.argmax(0))


@pytest.mark.parametrize("names", [1, 17, 48, 49, 171])
def test_the_best_name_is_the_first_of_the_highest(names: int) -> None:
    cosines = torch.randint(0, 9, (names, 20, 30)).float() / 10  # many ties
    best, index = best_name(cosines)
    assert torch.equal(best, cosines.amax(0))
    assert np.array_equal(index.numpy(), cosines.numpy().argmax(0))


def test_no_more_rows_than_fit_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Counted(Grid):
        def rows(self, top: int, bottom: int) -> Tensor:
            asked.append(bottom - top)
            return super().rows(top, bottom)

    monkeypatch.setattr(pixels, "MAX_ELEMENTS", 6 * 80 * 10)
    grid = torch.randn(6, 60, 7)
    found = label_pixels(Counted(grid), (240, 80), list("abcdef"))
    assert max(asked) <= 5, "ten rows of pixels lie between at most five rows of patches"
    assert np.array_equal(found.labels, whole(grid, (240, 80)).numpy().argmax(0))


class WindowByWindow:
    """The same method, without its similarities of patches."""

    name = "window by window"

    def __init__(self, method: DenseClipSegmentation) -> None:
        self.segment, self.prompted = method.segment, lambda prompts: self


@pytest.mark.parametrize("most", [1, 2**22])
def test_windows_of_patches_answer_as_windows_of_pixels(monkeypatch, most: int) -> None:
    monkeypatch.setattr(pixels, "MAX_ELEMENTS", most)
    method = DenseClipSegmentation(ColourClip())
    noise = np.random.default_rng(0).integers(0, 60, (24, 16, 3))
    noisy = np.clip(image() + noise, 0, 255).astype(np.uint8)
    names = [*NAMES, "crimson", "lime"]
    ours, stock = (
        SlidingSegmentation(one, 96, 64, 24).segment(
            noisy.astype(np.uint8), names, similarities=True
        )
        for one in (method, WindowByWindow(method))
    )
    np.testing.assert_allclose(ours.similarities, stock.similarities, atol=1e-6)
    assert (ours.labels == stock.labels).all()


def test_a_large_image_says_how_many_rows_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []

    @contextmanager
    def progress(label: str, **options: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(update=lambda rows: said.append((label, options["shown"], rows)))

    monkeypatch.setattr(pixels, "progress", progress)
    monkeypatch.setattr(pixels, "MAX_ELEMENTS", 2 * 30 * 16)
    for most in (20 * 30, 40 * 30):
        monkeypatch.setattr(pixels, "LARGE_PIXELS", most)
        labels = label_pixels(torch.randn(2, 3, 4), (40, 30), ["a", "b"]).labels
        assert labels.dtype == (np.uint8 if most < 40 * 30 else np.int32)
    assert said == [("pixels", large, rows) for large in (True, False) for rows in (16, 16, 8)]
