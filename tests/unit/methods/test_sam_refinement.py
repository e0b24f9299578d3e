"""SAM's refinement against its description, a pixel at a time."""

import numpy as np
import pytest
import torch

from fmbseg.methods import sam_refinement
from fmbseg.methods.sam_refinement import Refinement, refined
from fmbseg.methods.upsampling import Grid
from fmbseg.models.protocols import SamEmbedding, SamPrediction
from fmbseg.types import IGNORE
from tests.support.method_fakes import ColourSam

HEIGHT, WIDTH = 16, 22
OPTIONS = Refinement(temperature=0.2, min_probability=0.4, min_area_px=3, min_predicted_iou=0.8)


class BoxSam(ColourSam):
    """Its mask of a prompt is the box, a pixel wider on the right; every third answer is poor."""

    def __init__(self):
        self.asked = []

    def embedding(self):
        return SamEmbedding((HEIGHT, WIDTH), None)

    def downscale(self, embedding, maps):
        return maps[:, ::2, ::2]

    def upscale(self, embedding, logits):
        return logits

    def answer(self, number, corners):
        left, top, right, bottom = corners
        y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
        inside = (x >= left) & (x <= right + 1) & (y >= top) & (y <= bottom)
        return torch.where(inside, 0.3 * (x + y) + 0.1, -1.0), 0.5 if number % 3 == 2 else 0.9

    def predict_regions(self, embedding, points_xy_px, corners_px, masks, wanted=None):
        logits, quality = [], []
        for one in zip(points_xy_px, corners_px, masks, strict=True):
            drawn, score = self.answer(len(self.asked), one[1])
            self.asked.append(one)
            logits.append(drawn)
            quality.append([score])
        kept = wanted(torch.tensor(quality))
        return SamPrediction(torch.stack(logits)[kept[:, 0]], torch.tensor(quality), kept)


def parts_of(inside):
    """Connected sets of places, diagonals included, in the order of their first place."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(inside), strict=True)}
    while left:
        waiting, part = [min(left)], set()
        while waiting:
            y, x = waiting.pop()
            if (y, x) in left:
                left.remove((y, x))
                part.add((y, x))
                waiting += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        yield part


def slow_refinement(cosines, coarse, sam):
    """All probabilities at once, then region by region and pixel by pixel."""
    cosines = torch.nn.functional.interpolate(cosines[None], (HEIGHT, WIDTH), mode="bilinear")[0]
    p = (cosines / 0.2).softmax(0).numpy()
    scores, failed, prompts = np.zeros_like(p), np.zeros(coarse.shape, bool), []
    for name in range(len(p)):
        # Half of an even size: bilinear interpolation is the mean of four, the nearest is the first
        half = p[name].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
        inside = (coarse[::2, ::2] == name) & (half >= 0.4)
        for part in parts_of(inside):
            if len(part) < 3:
                continue
            peak = max(sorted(part), key=lambda place: half[place])
            ys, xs = [y for y, _ in part], [x for _, x in part]
            corners = [2.0 * min(xs), 2.0 * min(ys), 2.0 * max(xs), 2.0 * max(ys)]
            low = p[name][::2, ::2]
            prompts.append(((2 * peak[1], 2 * peak[0]), corners, 0.005 * low * (low > 0.4)))
            logits, quality = sam.answer(len(prompts) - 1, corners)
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    if quality <= 0.8:
                        failed[y, x] |= (y // 2, x // 2) in part
                    elif logits[y, x] > 0:
                        score = p[name, y, x] / (1 + np.exp(-float(logits[y, x])))
                        scores[name, y, x] = max(scores[name, y, x], score)
    labels = np.where(scores.max(0) > 0, scores.argmax(0), coarse)
    return np.where(failed, coarse, labels), prompts


@pytest.mark.parametrize("seed", range(4))
def test_refinement_equals_its_description(seed):
    rng = np.random.default_rng(seed)
    cosines = torch.from_numpy(rng.random((4, 5, 6))).float()
    full = torch.nn.functional.interpolate(cosines[None], (HEIGHT, WIDTH), mode="bilinear")[0]
    coarse = full.argmax(0).numpy().astype(np.int32)
    coarse[:3, :5] = IGNORE
    sam, before = BoxSam(), coarse.copy()
    found = refined(sam, sam.embedding(), Grid(cosines), coarse, OPTIONS)
    wanted, prompts = slow_refinement(cosines, coarse, BoxSam())
    assert len(sam.asked) == len(prompts) > 3
    for ours, theirs in zip(sam.asked, prompts, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(coarse, before)
    assert (found != coarse).any()
    assert found.dtype == coarse.dtype


def test_one_name_of_a_map_that_is_computed_gives_the_same(monkeypatch):
    cosines = torch.from_numpy(np.random.default_rng(1).random((4, 5, 6))).float()
    full = torch.nn.functional.interpolate(cosines[None], (HEIGHT, WIDTH), mode="bilinear")[0]
    coarse, sam = full.argmax(0).numpy(), BoxSam()
    wanted = refined(sam, sam.embedding(), Grid(cosines), coarse, OPTIONS)
    monkeypatch.setattr(sam_refinement, "_of_name", sam_refinement._OneName)
    sam = BoxSam()
    found = refined(sam, sam.embedding(), Grid(cosines), coarse, OPTIONS)
    np.testing.assert_array_equal(found, wanted)


def test_without_a_region_large_enough_everything_stays():
    cosines = torch.from_numpy(np.random.default_rng(1).random((4, 5, 6))).float()
    coarse = np.full((HEIGHT, WIDTH), 2)
    sam = BoxSam()
    large = Refinement(min_area_px=10_000)
    assert (refined(sam, sam.embedding(), Grid(cosines), coarse, large) == 2).all()
    assert not sam.asked
