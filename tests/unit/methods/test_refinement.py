"""Labels that follow the image's edges: against the formula written out, and what it promises."""

import numpy as np
import pytest
import torch

from fmbseg.methods import pixel_refinement
from fmbseg.methods.pixel_refinement import CONTRAST, ROUNDS, refined
from fmbseg.methods.pixels import label_or_none, label_pixels
from fmbseg.methods.refined import RefinedSegmentation
from fmbseg.methods.segmentation import Prompts

NAMES = ("left", "right", "never")


def picture(height=24, width=24, edge=9):
    """Two flat halves with a little noise; the edge lies on no border of patches."""
    drawn = np.random.default_rng(0).integers(0, 12, (height, width, 3))
    drawn[:, :edge] += 40
    drawn[:, edge:] += 180
    return drawn.astype(np.uint8)


def grid(rows=4, cols=4, names=2):
    """The left class wins the left half of the patches; further names win nowhere."""
    cosines = torch.full((names, rows, cols), -0.2)
    cosines[0, :, : cols // 2], cosines[1, :, cols // 2 :] = 0.6, 0.5
    cosines[:2] += 0.05 * torch.rand(2, rows, cols, generator=torch.Generator().manual_seed(0))
    return cosines


def slow(values, pixels, distances):
    """The formula, pixel by pixel."""
    names, height, width = values.shape
    around = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
    steps = [(d * a, d * b) for d in distances for a, b in around]

    def place(y, x):
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    weights = {}
    for y in range(height):
        for x in range(width):
            near = np.array([pixels[place(y + a, x + b)] for a, b in steps])
            spread = np.concatenate([near, pixels[y, x][None]]).std(axis=0, ddof=1)
            apart = (np.abs(near - pixels[y, x]) / (CONTRAST * spread + 1e-8)).mean(axis=1)
            unscaled = np.exp(apart.min() - apart)
            weights[y, x] = unscaled / unscaled.sum()
    for _ in range(ROUNDS):
        values = np.array([
            [[sum(w * values[(k, *place(y + a, x + b))] for w, (a, b) in zip(weights[y, x], steps,
                                                                            strict=True))
              for x in range(width)] for y in range(height)] for k in range(names)
        ])  # fmt: skip
    return values


def test_it_is_the_formula(monkeypatch):
    monkeypatch.setattr(pixel_refinement, "ROUNDS", 2)
    monkeypatch.setattr("tests.unit.methods.test_refinement.ROUNDS", 2)
    image, cosines = picture(12, 10, 4), grid(3, 3)
    found = refined(cosines, image)
    coarse = torch.nn.functional.interpolate(cosines[None], (12, 10), mode="bilinear")[0]
    wanted = slow(coarse.double().numpy(), image / 255.0, (2, 4))
    assert found.winners == [0, 1]
    np.testing.assert_allclose(found.values.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("edge", [8, 9, 15])
def test_borders_move_to_the_edge(edge):
    image = picture(edge=edge)
    truth = np.repeat((np.arange(24) >= edge)[None], 24, axis=0)
    before = label_pixels(grid(), (24, 24), NAMES[:2]).labels == truth
    after = label_pixels(refined(grid(), image), (24, 24), NAMES[:2]).labels == truth
    assert before.mean() < 0.9 < 0.99 < after.mean()


def test_a_name_that_won_nowhere_wins_nowhere_and_changes_nothing():
    image, three = picture(), grid(names=3)
    three[2] = 0.0
    three[2, 0, 0] = 0.55  # high, but below
    found = refined(three, image)
    assert found.winners == [0, 1]
    answer = label_or_none(found, (24, 24), NAMES, temperature=0.2, similarities=True)
    alone = label_or_none(refined(three[:2], image), (24, 24), NAMES[:2])
    np.testing.assert_array_equal(answer.labels, alone.labels)
    np.testing.assert_array_equal(answer.labels, found.labels((24, 24), NAMES).labels)
    np.testing.assert_allclose(answer.best_similarity, alone.best_similarity, atol=1e-6)
    assert (answer.similarities[2] < answer.best_similarity).all()
    assert (answer.confidence > 0).all()
    assert (answer.confidence < 1).all()


def test_large_images_are_refined_at_the_patches_scale(monkeypatch):
    monkeypatch.setattr(pixel_refinement, "PATCH_PX", 6)
    image = picture(60, 96, 40)
    found = refined(grid(4, 4), image)
    assert found.size_hw == (15, 24)
    answer = label_pixels(found, (60, 96), NAMES[:2]).labels
    truth = np.repeat((np.arange(96) >= 40)[None], 60, axis=0)
    assert answer.shape == (60, 96)
    assert (answer == truth).mean() > 0.97


def test_one_class_stays_as_it_is():
    one = grid()[:1]
    found = refined(one, picture())
    wanted = torch.nn.functional.interpolate(one[None], (24, 24), mode="bilinear")[0]
    torch.testing.assert_close(found.values, wanted)


class Inner:
    """A method of patches."""

    name, images_at_once = "inner", 1

    def similarity_grids(self, images, class_names):
        return [grid(names=len(class_names)) for _ in images]

    def segment(self, image, class_names, *, similarities=False):
        raise AssertionError("its similarities alone are asked for")

    def prompted(self, prompts):
        return self


def test_the_method_answers_at_the_images_size():
    method = RefinedSegmentation(Inner(), "refined")
    answer = method.segment(picture(), NAMES, similarities=True)
    assert answer.labels.shape == (24, 24)
    assert answer.similarities.shape == (3, 24, 24)
    assert method.prompted(Prompts(("{}",))).name == "refined"
