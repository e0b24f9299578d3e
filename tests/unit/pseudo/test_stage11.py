import numpy as np
import pytest
import torch

from fmbseg.pseudo.presence import count_votes, present_classes
from fmbseg.pseudo.prompts import prompted_masks, top_points
from fmbseg.store import decode_rle
from tests.support.pseudo_fakes import COLOURS, NAMES, ColourClip, ColourSam, painted


def unit_rows(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def test_votes_equal_a_double_loop():
    cls, texts = unit_rows(11, 4), unit_rows(5, 4, seed=1)
    expected = [0] * 5
    for crop in cls:
        scores = [float(crop @ text) for text in texts]
        expected[scores.index(max(scores))] += 1
    assert count_votes(cls, texts).tolist() == expected
    assert sum(expected) == 11


def test_a_class_is_present_with_more_votes_than_the_threshold():
    texts = torch.eye(4)
    cls = texts[[3, 3, 1, 0, 0, 0]]
    assert present_classes(count_votes(cls, texts), 0) == [0, 1, 3]
    assert present_classes(count_votes(cls, texts), 1) == [0, 3]
    assert present_classes(count_votes(cls, texts), 2) == [0]


def test_a_class_is_always_present_even_with_one_crop():
    texts = torch.eye(4)
    assert present_classes(count_votes(texts[[2]], texts), 1) == [2]
    assert present_classes(count_votes(texts[[3, 1]], texts), 5) == [1]


def test_every_one_of_255_classes_can_be_present():
    texts = torch.eye(255)
    assert present_classes(count_votes(texts.repeat(2, 1), texts), 1) == list(range(255))


def test_points_are_the_centres_of_the_most_similar_patches_x_before_y():
    patches, text = unit_rows(3, 4, 8), unit_rows(8)
    ranked = sorted(
        ((float(patches[r, c] @ text), c, r) for r in range(3) for c in range(4)), reverse=True
    )
    points = top_points(patches, text, 5, (30, 80))
    expected = [((c + 0.5) * 20, (r + 0.5) * 10) for _, c, r in ranked[:5]]
    np.testing.assert_allclose(points, expected)


def test_fewer_patches_than_points_gives_all_patches_and_ties_go_in_reading_order():
    points = top_points(torch.ones(1, 2, 3), torch.ones(3), 5, (8, 8))
    np.testing.assert_allclose(points, [[2, 4], [6, 4]])


def prompted(image, present, sam=None, names=NAMES, texts=None, together=True):
    clip = ColourClip()
    sam = sam or ColourSam()
    return prompted_masks(
        sam,
        sam.embed(image),
        clip.encode_dense(image),
        clip.encode_text(NAMES) if texts is None else texts,
        present,
        class_names=names,
        image_name="a.png",
        count=5,
        stability_offset=1.0,
        together=together,
    )


def test_every_present_class_gets_the_mask_of_its_own_region():
    image = painted("red", "green", "blue")
    masks = prompted(image, [2, 0, 1])
    assert [mask.class_name for mask in masks] == ["blue", "red", "green"]
    for mask in masks:
        pixels = decode_rle(mask.mask.rle)
        colour = image[pixels].mean(axis=0)
        np.testing.assert_allclose(colour, COLOURS[mask.class_name], atol=4)
        assert pixels.sum() > 0.8 * image.shape[0] * image.shape[1] / 3
        assert mask.stage == "1.1"
        assert mask.clip_similarity > 0.99
        assert len(mask.mask.points_xy_px) == 5
        assert mask.mask.area_px == pixels.sum()


def test_the_mask_with_the_highest_predicted_quality_is_kept():
    class Chooser(ColourSam):
        def all_masks(self, embedding, points_xy_px):
            logits, _ = super().all_masks(embedding, points_xy_px)
            return logits, torch.tensor([[0.1, 0.2, 0.3]])

    image = painted("red", "green")
    (mask,) = prompted(image, [0], Chooser())
    assert mask.mask.predicted_iou == pytest.approx(0.3)
    assert mask.mask.area_px == image.shape[0] * image.shape[1]  # the loosest of the three


def test_points_asked_one_by_one_leave_the_best_of_all_their_masks():
    asked = []

    class Chooser(ColourSam):
        def all_masks(self, embedding, points_xy_px):
            asked.append(points_xy_px.shape)
            logits, _ = super().all_masks(embedding, points_xy_px)
            quality = torch.zeros(len(points_xy_px), logits.shape[1])
            quality[3, 1] = 0.9  # red's fourth point
            quality[5, 2] = 0.8  # green's first
            return logits, quality

    image = painted("red", "green")
    red, green = prompted(image, [0, 1], Chooser(), together=False)
    assert asked == [(10, 1, 2)]
    assert red.mask.predicted_iou == pytest.approx(0.9)
    assert green.mask.predicted_iou == pytest.approx(0.8)
    assert green.mask.area_px == image.shape[0] * image.shape[1]  # the loosest of the three
    assert len(red.mask.points_xy_px) == 5, "all points of the class are on record"


def test_an_empty_mask_is_left_out_and_the_others_keep_their_class():
    class Blind(ColourSam):
        def all_masks(self, embedding, points_xy_px):
            logits, quality = super().all_masks(embedding, points_xy_px)
            logits[0] = -9.0
            return logits, quality

    masks = prompted(painted("red", "green"), [0, 1], Blind())
    assert [mask.class_name for mask in masks] == ["green"]


def test_more_classes_than_one_batch_of_prompts_all_get_a_mask():
    names = tuple(f"class {index}" for index in range(70))
    masks = prompted(painted("red"), list(range(70)), names=names, texts=unit_rows(70, 3))
    assert [mask.class_index for mask in masks] == list(range(70))
