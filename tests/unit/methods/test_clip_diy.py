"""CLIP-DIY on colours: whole crops, their scales, and SAM's objectness."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, normalize

from fmbseg.evaluate.sliding import SlidingSegmentation
from fmbseg.methods import clip_diy
from fmbseg.methods.clip_diy import ClipDiySegmentation, crop_starts, objectness
from fmbseg.methods.segmentation import Prompts
from fmbseg.models.protocols import DenseClip
from fmbseg.types import SamMask
from tests.support.masks import encode_rle
from tests.support.method_fakes import COLOURS, NAMES, OPTIONS, ColourClip, ColourSam, image


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_diy, "CROP_FRACTIONS", (1.0, 0.5))
    monkeypatch.setattr(clip_diy, "LEAST_OBJECTNESS", 0.1)


class WholeClip(ColourClip):
    """A crop is one picture: its class token is its mean colour."""

    def encode_dense(self, image):
        self.image_calls += 1
        mean = torch.from_numpy(image.copy()).float().mean(dim=(0, 1))
        return DenseClip(torch.zeros(1, 1, 3), normalize(mean, dim=0)[None])


class AbsentSam(ColourSam):
    """No one may ask it."""

    def embed(self, image):
        raise AssertionError("SAM was asked")


def slow_scores(pixels, names, fractions):
    """Crop by crop, class by class."""
    texts = ColourClip().encode_text(names)
    height, width = pixels.shape[:2]
    total = torch.zeros(len(names), height, width)
    for fraction in fractions:
        side = round(fraction * min(height, width))
        tops, lefts = ([*range(0, n - side + 1, side // 2)] for n in (height, width))
        grid = torch.zeros(len(names), len(tops), len(lefts))
        for row, top in enumerate(tops):
            for col, left in enumerate(lefts):
                crop = torch.from_numpy(pixels[top : top + side, left : left + side].copy())
                mean = crop.float().reshape(-1, 3).mean(0)
                for k in range(len(names)):
                    grid[k, row, col] = (mean / mean.norm()) @ texts[k]
        total += interpolate(grid[None], (height, width), mode="bilinear", align_corners=False)[0]
    return total / len(fractions)


def test_scores_are_the_mean_over_scales_of_upsampled_cosines_of_whole_crops() -> None:
    method = ClipDiySegmentation(WholeClip(), AbsentSam(), OPTIONS)
    expected = slow_scores(image(), NAMES, (1.0, 0.5))
    assert np.array_equal(method.segment(image(), NAMES).labels, expected.argmax(0).numpy())


@pytest.mark.parametrize("background", [(), ("red",), ("red", "blue")])
def test_similarities_are_weighed_by_objectness_or_by_what_is_left_of_it(background) -> None:
    method = ClipDiySegmentation(WholeClip(), ColourSam(), OPTIONS, background_names=background)
    found = method.segment(image(), NAMES, similarities=True)
    scores = slow_scores(image(), NAMES, (1.0, 0.5))
    best = np.zeros((24, 16))
    for rows, cols in ((slice(0, 12), slice(0, 16)), (slice(12, 24), slice(0, 8)),
                       (slice(12, 24), slice(8, 16))):  # fmt: skip
        mask = np.zeros((24, 16), bool)
        mask[rows, cols] = True
        shared = mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum()
        best[mask] = 0.9 * math.exp(-(shared**2) / mask.sum() / 2)
    weight = np.clip(best, 0.1, 0.9)
    for k, name in enumerate(NAMES):
        expected = scores[k].numpy() * (1 - weight if name in background else weight)
        np.testing.assert_allclose(found.similarities[k], expected, atol=1e-5)
    assert np.array_equal(found.labels, found.similarities.argmax(0))
    assert np.array_equal(method.segment(image(), NAMES).labels, found.labels)


def test_objectness_turns_the_middle_to_the_object_and_the_frame_to_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A red square on blue, in crops too coarse to tell them: SAM's masks draw the border."""
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:] = COLOURS["blue"]
    pixels[8:16, 8:16] = COLOURS["red"]
    monkeypatch.setattr(clip_diy, "CROP_FRACTIONS", (0.5,))
    square = pixels[..., 0] > 0
    method = ClipDiySegmentation(WholeClip(), ColourSam(), OPTIONS, background_names=("blue",))
    labels = method.segment(pixels, NAMES).labels
    assert (labels[square] == 0).all()
    assert (labels[~square] == 2).all()


def test_a_mask_along_the_frame_is_no_object_and_the_best_mask_counts() -> None:
    def mask(rows, cols, predicted_iou):
        inside = np.zeros((20, 30), bool)
        inside[rows, cols] = True
        return SamMask(encode_rle(inside), int(inside.sum()), (0, 0, 0, 0), predicted_iou, 1.0, ())

    band = mask(slice(0, 10), slice(0, 30), 0.9)
    inner = mask(slice(5, 15), slice(10, 20), 0.8)
    found = objectness([inner, band], (20, 30))
    assert found.dtype == np.float32
    assert found[10, 15] == pytest.approx(0.8)
    assert found[7, 15] == pytest.approx(0.8)
    assert found[2, 2] == pytest.approx(0.9 * math.exp(-(50**2) / 300 / 2), rel=1e-5)
    assert found[18, 2] == 0
    assert objectness([], (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("length", "side", "stride", "starts"),
    [
        (256, 256, 128, [0]), (256, 128, 64, [0, 64, 128]), (384, 256, 128, [0, 128]),
        (20, 8, 5, [0, 4, 8, 12]), (9, 8, 4, [0, 1]),
    ],
)  # fmt: skip
def test_crops_are_spread_evenly_from_edge_to_edge(length, side, stride, starts) -> None:
    assert crop_starts(length, side, stride) == starts


def test_where_clip_cuts_a_crop_further_the_mean_token_stands_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ColourClip` answers one token a patch of 4 px; the plain mean of a crop's two halves."""
    monkeypatch.setattr(clip_diy, "CROP_FRACTIONS", (1.0,))
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4], pixels[:, 4:] = COLOURS["red"], COLOURS["green"]
    found = ClipDiySegmentation(ColourClip(), ColourSam(), OPTIONS).segment(
        pixels, NAMES, similarities=True
    )
    ratio = found.similarities[:, 0, 0] / found.similarities[0, 0, 0]
    assert ratio == pytest.approx([1, 1, 0], abs=1e-6)


def test_prompts_and_windows_apply_as_to_every_method() -> None:
    method = ClipDiySegmentation(WholeClip(), ColourSam(), OPTIONS)
    swapped = method.prompted(Prompts(("{}",), {"red": ("blue", "blue", "blue")}))
    assert not np.array_equal(
        swapped.segment(image(), NAMES).labels, method.segment(image(), NAMES).labels
    )
    sliding = SlidingSegmentation(method, 16, 16, 8).segment(image(), NAMES, similarities=True)
    assert sliding.similarities.shape == (3, 24, 16)
    assert sliding.labels[1, 8] == 0
    assert sliding.labels[22, 1] == 1
