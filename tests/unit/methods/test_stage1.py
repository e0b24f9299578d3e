"""Stage 1 as a segmenter: its scores, and the variant that is told an image's classes."""

import numpy as np
import pytest
import torch

from fmbseg.evaluate.sliding import SlidingSegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.segmentation import ask, needs_image_labels
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.pseudo.presence import given_classes
from fmbseg.pseudo.stage1 import pseudo_masks_of_image
from fmbseg.types import IGNORE
from tests.support.method_fakes import (
    COLOURS,
    NAMES,
    OPTIONS,
    BlindSam,
    ColourClip,
    ColourSam,
    image,
    truth,
)


class HalfBlindSam(ColourSam):
    """Has a mask of red alone."""

    def all_masks(self, embedding, points_xy_px):
        logits, quality = super().all_masks(embedding, points_xy_px)
        for index, points in enumerate(points_xy_px):
            x, y = points[0].astype(int)
            if tuple(embedding.encoded[0, :, y, x].int().tolist()) != COLOURS["red"]:
                logits[index] = -10
                quality[index] = 0
        return logits, quality


@pytest.mark.parametrize("stages", [("1.1",), ("1.2",), ("1.1", "1.2")])
@pytest.mark.parametrize("sam", [ColourSam, HalfBlindSam, BlindSam])
def test_the_best_score_is_the_label_and_asking_for_scores_changes_no_label(stages, sam) -> None:
    method = Stage1Segmentation(ColourClip(), sam(), OPTIONS, stages)
    plain, scored = (method.segment(image(), NAMES, similarities=s) for s in (False, True))
    assert plain.similarities is None
    assert scored.similarities.shape == (3, 24, 16)
    assert scored.similarities.dtype == np.float32
    assert plain.labels.tobytes() == scored.labels.tobytes()
    assert np.array_equal(scored.similarities.argmax(0), plain.labels)


def test_a_mask_is_a_full_vote_and_bare_pixels_have_cosines_of_the_present_classes() -> None:
    pixels = image()
    pixels[12:, 8:] = COLOURS["green"]
    pixels[20:, 12:] = COLOURS["blue"]
    clip = ColourClip()
    votes = (
        Stage1Segmentation(clip, HalfBlindSam(), OPTIONS)
        .segment(pixels, NAMES, similarities=True)
        .similarities
    )
    grid = torch.einsum("rcd,kd->krc", clip.encode_dense(pixels).patches, clip.encode_text(NAMES))
    cosines = torch.nn.functional.interpolate(
        grid[None], (24, 16), mode="bilinear", align_corners=False
    )[0]
    for y in range(24):
        for x in range(16):
            if y < 12:  # under red's mask
                assert votes[:, y, x].tolist() == [1, -1, -1]
            else:  # one patch of blue is one vote, which is not more than 1: not present
                assert votes[:2, y, x] == pytest.approx(cosines[:2, y, x].numpy())
                assert votes[2, y, x] == -1


def test_over_windows_the_masks_votes_are_averaged() -> None:
    method = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS)
    sliding = SlidingSegmentation(method, 16, 16, 8)
    found = sliding.segment(image(), NAMES, similarities=True)
    assert np.array_equal(found.labels, truth())
    parts = [method.segment(image()[top : top + 16], NAMES, similarities=True) for top in (0, 8)]
    total, count = np.zeros((3, 24, 16)), np.zeros((24, 16))
    for top, part in zip((0, 8), parts, strict=True):
        total[:, top : top + 16] += part.similarities
        count[top : top + 16] += 1
    np.testing.assert_allclose(found.similarities, total / count, atol=1e-6)


def test_classes_that_are_given_take_the_place_of_the_votes() -> None:
    """Red and blue are given, so green's pixels go to one of the two, by mask or by patch."""
    method = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, needs_image_labels=True)
    assert set(np.unique(method.segment(image(), NAMES, present=[2, 0]).labels)) == {0, 2}
    every = method.segment(image(), NAMES, present=[0, 1, 2])
    free = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS).segment(image(), NAMES)
    assert np.array_equal(every.labels, free.labels)


def test_a_class_too_small_for_two_votes_is_found_when_it_is_given() -> None:
    pixels = image()
    pixels[12:, 8:] = COLOURS["green"]
    pixels[20:, 12:] = COLOURS["blue"]
    method = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS)
    assert not (method.segment(pixels, NAMES).labels == 2).any()
    told = method.segment(pixels, NAMES, present=[0, 1, 2]).labels
    assert (told[20:, 12:] == 2).all()


def test_only_the_variant_with_image_labels_asks_for_them() -> None:
    free = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS)
    bound = Stage1Segmentation(
        ColourClip(), ColourSam(), OPTIONS, name="stage1_image_labels", needs_image_labels=True
    )
    dense = DenseClipSegmentation(ColourClip())
    assert [needs_image_labels(m) for m in (free, bound, dense)] == [False, True, False]
    assert needs_image_labels(SlidingSegmentation(bound, 16, 16, 8))
    assert not needs_image_labels(SlidingSegmentation(dense, 16, 16, 8))
    with pytest.raises(ValueError, match="stage1_image_labels: found no image labels"):
        bound.segment(image(), NAMES)
    with pytest.raises(ValueError, match="cannot use them"):
        ask(dense, image(), NAMES, present=[0])


def test_every_window_is_told_the_classes_of_the_whole_image() -> None:
    bound = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, needs_image_labels=True)
    found = SlidingSegmentation(bound, 16, 16, 8).segment(image(), NAMES, present=[0, 1])
    assert set(np.unique(found.labels)) == {0, 1}


@pytest.mark.parametrize("present", [[], [3], [-1, 0]])
def test_no_class_or_one_out_of_range_is_refused(present) -> None:
    with pytest.raises(ValueError, match="from 0 to 2"):
        given_classes(present, 3)
    with pytest.raises(ValueError, match="present"):
        Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS).segment(
            image(), NAMES, present=present
        )


def test_given_classes_reach_the_pseudo_masks_and_the_votes_are_still_counted() -> None:
    clip = ColourClip()
    texts = clip.encode_text(NAMES)
    voted, given = (
        pseudo_masks_of_image(image(), "a", clip, ColourSam(), texts, NAMES, OPTIONS, present)
        for present in (None, [2, 1, 1])
    )
    assert (voted.present, given.present) == ([0, 1, 2], [1, 2])
    assert voted.votes == given.votes
    masks = given.masks_11 + given.masks_12
    assert {mask.class_index for mask in masks} == {1, 2}


def test_as_many_names_as_a_label_map_holds_are_the_limit() -> None:
    names = [f"red {k}" for k in range(IGNORE + 1)]
    many = OPTIONS.changed(prompt_points=1)
    with pytest.raises(ValueError, match="at most 255"):
        Stage1Segmentation(ColourClip(), ColourSam(), many).segment(image(), names)


def test_a_stage_that_is_not_wanted_is_not_computed(monkeypatch) -> None:
    from fmbseg.pseudo import stage1

    def refuse(*_, **__):
        raise AssertionError("stage 1.2 was computed")

    monkeypatch.setattr(stage1, "masks_of_embedded", refuse)
    method = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, ("1.1",))
    assert method.segment(image(), NAMES).labels.max() < len(NAMES)
