import math

import numpy as np
import pytest
import torch

from fmbseg.models.protocols import DenseClip, SamEmbedding
from fmbseg.pseudo import automatic, rasterise
from fmbseg.pseudo.automatic import automatic_masks, point_grid, without_duplicates
from fmbseg.pseudo.labelling import coverage, label_masks
from fmbseg.pseudo.stage1 import pseudo_masks_of_image
from fmbseg.store import decode_rle, encode_rles
from fmbseg.types import SamMask
from tests.support.masks import encode_rle
from tests.support.pseudo_fakes import COLOURS, NAMES, OPTIONS, ColourClip, ColourSam, painted


def sam_mask(pixels, predicted_iou=0.9):
    rows, cols = np.nonzero(pixels)
    left, top = float(cols.min()), float(rows.min())
    box = (left, top, float(cols.max() - left + 1), float(rows.max() - top + 1))
    return SamMask(encode_rle(pixels), int(pixels.sum()), box, predicted_iou, 1.0, ((0.0, 0.0),))


def rectangle(top, bottom, left, right, size_hw=(20, 30)):
    pixels = np.zeros(size_hw, bool)
    pixels[top:bottom, left:right] = True
    return pixels


def upscale_first_reference(sam, image, options):
    """The textbook order: upscale every mask, then filter, then suppress by a double loop."""
    embedding = sam.embed(image)
    height, width = image.shape[:2]
    found = []
    for j in range(options.points_per_side):
        for i in range(options.points_per_side):
            x = width * (2 * i + 1) / (2 * options.points_per_side)
            y = height * (2 * j + 1) / (2 * options.points_per_side)
            prediction = sam.predict_points(embedding, np.array([[[x, y]]]))
            logits = sam.upscale(embedding, prediction.logits).numpy()
            for logit, quality in zip(logits, prediction.predicted_iou[0].tolist(), strict=True):
                inner = (logit > options.stability_offset).sum()
                outer = (logit > -options.stability_offset).sum()
                pixels = logit > 0
                share = pixels.mean()
                if (
                    quality > options.min_predicted_iou
                    and outer
                    and inner / outer >= options.min_stability
                    and options.min_area_fraction <= share <= options.max_area_fraction
                ):
                    found.append((quality, pixels))
    found.sort(key=lambda one: -one[0])
    kept: list[np.ndarray] = []
    for _, pixels in found:
        if all(box_iou(pixels, other) <= options.nms_iou for other in kept):
            kept.append(pixels)
    return kept


def box_iou(one, two):
    """Of boxes from first to last pixel coordinate."""
    boxes = []
    for pixels in (one, two):
        rows, cols = np.nonzero(pixels)
        boxes.append((cols.min(), rows.min(), cols.max(), rows.max()))
    (a, b, c, d), (e, f, g, h) = boxes
    shared = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return shared / ((c - a) * (d - b) + (g - e) * (h - f) - shared)


def test_the_grid_lies_at_cell_centres_row_by_row():
    np.testing.assert_allclose(
        point_grid(2, (10, 40)), [[10, 2.5], [30, 2.5], [10, 7.5], [30, 7.5]]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_filtering_before_upscaling_gives_the_masks_of_the_textbook_order(seed):
    image = painted("red", "green", "yellow", "blue", seed=seed)
    image[10:30, 20:36] = COLOURS["blue"]
    expected = upscale_first_reference(ColourSam(), image, OPTIONS)
    found = automatic_masks(ColourSam(), image, OPTIONS)
    assert len(found) == len(expected) >= 4
    for mask, pixels in zip(found, expected, strict=True):
        np.testing.assert_array_equal(decode_rle(mask.rle), pixels)
        rows, cols = np.nonzero(pixels)
        assert mask.area_px == pixels.sum()
        assert mask.box_xywh_px == (
            cols.min(), rows.min(), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1,
        )  # fmt: skip


def test_only_masks_of_good_predicted_iou_are_upscaled():
    sam = ColourSam()
    found = automatic_masks(sam, painted("red", "green"), OPTIONS)
    # Of the three a point, the third has a predicted IoU of 0.3; those found are encoded.
    assert sam.upscaled == 36 * 2 + len(found)


def test_the_batch_size_does_not_change_the_masks(monkeypatch):
    image = painted("red", "green", "blue")
    one = automatic_masks(ColourSam(), image, OPTIONS)
    monkeypatch.setattr(automatic, "_POINTS_AT_ONCE", 5)
    two = automatic_masks(ColourSam(), image, OPTIONS)
    assert one == two


def test_auto_is_half_of_sams_patch_grid_a_side():
    sam, image = ColourSam(), painted("red", "green", "blue")
    sam.grid_side = 12
    auto = automatic_masks(sam, image, OPTIONS.changed(points_per_side="auto"))
    assert auto == automatic_masks(ColourSam(), image, OPTIONS.changed(points_per_side=6))


def test_a_given_embedding_is_used_and_the_image_not_encoded_again():
    sam, image = ColourSam(), painted("red", "green")
    embedding = sam.embed(image)
    assert automatic_masks(sam, image, OPTIONS, embedding) == automatic_masks(
        ColourSam(), image, OPTIONS
    )
    assert sam.embeds == 1


def test_a_large_stuff_region_stays_and_the_whole_image_goes():
    image = painted(*["blue"] * 9, "red", size_hw=(50, 60))
    masks = automatic_masks(ColourSam(), image, OPTIONS)
    assert max(mask.area_px for mask in masks) / 3000 == pytest.approx(0.9, abs=0.02)
    assert automatic_masks(ColourSam(), painted("blue"), OPTIONS) == []


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"min_predicted_iou": 0.99}, 0),
        ({"min_stability": 1.01}, 0),
        ({"min_area_fraction": 0.6}, 0),
        ({"max_area_fraction": 0.3}, 0),
        ({"min_area_fraction": 0.45, "max_area_fraction": 0.55}, 2),
    ],
)
def test_every_filter_filters(change, count):
    options = OPTIONS.model_copy(update=change)
    assert len(automatic_masks(ColourSam(), painted("red", "green"), options)) == count


def test_of_two_masks_with_like_boxes_the_better_stays():
    worse, apart, better = (0, 0, 9, 9), (15, 5, 24, 14), (0, 0, 10, 9)
    boxes, scores = torch.tensor([worse, apart, better]), torch.tensor([0.7, 0.6, 0.8])
    assert without_duplicates(boxes, scores, 0.7).tolist() == [2, 1]
    assert without_duplicates(boxes, scores, 0.95).tolist() == [2, 0, 1]
    assert without_duplicates(boxes[:0], scores[:0], 0.7).tolist() == []


def test_run_lengths_are_made_only_of_masks_that_are_no_duplicates(monkeypatch):
    encoded = []

    def counting(masks):
        encoded.extend(masks)
        return encode_rles(masks)

    monkeypatch.setattr(rasterise, "encode_rles", counting)
    found = automatic_masks(ColourSam(), painted("red", "green"), OPTIONS)
    assert len(encoded) == len(found) == 2


# labelling


def test_coverage_equals_a_loop_over_pixels_also_when_patches_cut_pixels():
    masks = [np.random.default_rng(i).random((7, 10)) > 0.6 for i in range(3)]
    found = coverage([sam_mask(m) for m in masks], (3, 4))
    for mask, grid in zip(masks, found, strict=True):
        expected = np.zeros((3, 4))
        fine = np.kron(mask, np.ones((3 * 4, 4 * 3)))  # a whole number of cells a patch and pixel
        for y in range(fine.shape[0]):
            for x in range(fine.shape[1]):
                expected[y * 3 // fine.shape[0], x * 4 // fine.shape[1]] += fine[y, x]
        np.testing.assert_allclose(grid, expected / expected.sum(), atol=1e-6)


def test_masks_take_the_nearest_class_among_those_present_only():
    image = painted("red", "green", "blue")
    clip = ColourClip()
    dense, texts = clip.encode_dense(image), clip.encode_text(NAMES)
    masks = [sam_mask(rectangle(0, 48, left, left + 20, (48, 64))) for left in (0, 22, 44)]
    found = label_masks(masks, dense, texts, [0, 1, 2], NAMES, "a.png")
    assert [mask.class_name for mask in found] == ["red", "green", "blue"]
    assert [mask.mask for mask in found] == masks
    assert all(mask.clip_similarity > 0.9 and mask.stage == "1.2" for mask in found)
    found = label_masks(masks, dense, texts, [2, 3], NAMES, "a.png")
    assert {mask.class_name for mask in found} <= {"blue", "yellow"}


def test_the_similarity_is_the_cosine_of_the_area_weighted_mean():
    generator = torch.Generator().manual_seed(0)
    patches = torch.nn.functional.normalize(torch.randn(2, 3, 4, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(5, 4, generator=generator), dim=-1)
    pixels = rectangle(0, 6, 5, 20)
    total = torch.zeros(4)
    for y, x in zip(*np.nonzero(pixels), strict=True):
        total += patches[y // 10, x // 10]
    similarities = [float(total @ text / total.norm()) for text in texts]
    dense = DenseClip(patches, patches.flatten(0, 1))
    (found,) = label_masks([sam_mask(pixels)], dense, texts, range(5), "abcde", "a.png")
    assert found.clip_similarity == pytest.approx(max(similarities), abs=1e-6)
    assert found.class_index == similarities.index(max(similarities))


def test_a_mask_smaller_than_a_patch_is_labelled_by_that_patch():
    patches = torch.eye(6).reshape(2, 3, 6)
    dense = DenseClip(patches, patches.flatten(0, 1))
    pixels = rectangle(12, 13, 25, 26)
    (found,) = label_masks([sam_mask(pixels)], dense, torch.eye(6), range(6), "abcdef", "a.png")
    assert found.class_name == "f"
    assert math.isclose(found.clip_similarity, 1.0)


def test_every_one_of_255_classes_can_be_a_label():
    patches = torch.eye(255).reshape(15, 17, 255)
    dense = DenseClip(patches, patches.flatten(0, 1))
    masks = [
        sam_mask(rectangle(y, y + 1, x, x + 1, (15, 17))) for y in range(15) for x in range(17)
    ]
    names = [str(index) for index in range(255)]
    found = label_masks(masks, dense, torch.eye(255), range(255), names, "a.png")
    assert [mask.class_index for mask in found] == list(range(255))


def test_no_present_class_is_an_error_and_no_mask_is_none():
    dense = DenseClip(torch.ones(1, 1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"a\.png"):
        label_masks([], dense, torch.eye(3), [], "abc", "a.png")
    assert label_masks([], dense, torch.eye(3), [0], "abc", "a.png") == []


class LevelsSam(ColourSam):
    """Keeps several feature levels an image, as SAM 2 does."""

    def embed(self, image):
        one = super().embed(image)
        return SamEmbedding(one.image_hw, {"coarse": None, "fine": one.encoded})

    def all_masks(self, embedding, points_xy_px):
        fine = SamEmbedding(embedding.image_hw, embedding.encoded["fine"])
        return super().all_masks(fine, points_xy_px)


def test_a_sam_may_keep_of_an_image_whatever_it_wants():
    image, texts = painted("red", "blue"), ColourClip().encode_text(NAMES)
    one, other = (
        pseudo_masks_of_image(image, "a.png", ColourClip(), sam, texts, NAMES, OPTIONS)
        for sam in (ColourSam(), LevelsSam())
    )
    assert one.masks_11
    assert one.masks_12
    assert one == other
