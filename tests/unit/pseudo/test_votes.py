"""What a trained model makes of SAM's masks."""

import numpy as np
import pytest
import torch

from fmbseg.pseudo.votes import voted_masks
from fmbseg.store import encode_rles
from fmbseg.types import PseudoMask, SamMask

NAMES = ("sky", "cat", "kite")


def mask(rows, cols, of_clip=0, size=8):
    pixels = np.zeros((1, size, size), bool)
    pixels[0, rows, cols] = True
    area = int(pixels.sum())
    sam = SamMask(
        rle=encode_rles(pixels)[0], predicted_iou=0.9, stability=0.9, area_px=area,
        box_xywh_px=(0, 0, 1, 1), points_xy_px=((0.0, 0.0),),
    )  # fmt: skip
    return PseudoMask("a.png", of_clip, NAMES[of_clip], "1.2", 0.3, sam)


def cosines():
    """On 2 x 2 patches of 4 px: sky, cat / kite, cat."""
    best = torch.tensor([[0, 1], [2, 1]])
    return torch.nn.functional.one_hot(best, 3).permute(2, 0, 1).float() * 0.5


def test_a_masks_class_is_what_most_of_its_area_is_to_the_model():
    right, left = mask(slice(0, 8), slice(4, 8)), mask(slice(0, 8), slice(0, 4))
    three = mask(slice(0, 8), slice(3, 8))  # 8 of its 40 px lie on no cat
    found = voted_masks([right, left, three], cosines(), NAMES, min_agreement=0.7)
    assert [one.class_name for one in found] == ["cat", "cat"]
    assert [one.mask for one in found] == [right.mask, three.mask], (
        "the half and half one is left out"
    )
    assert voted_masks([three], cosines(), NAMES, min_agreement=0.85) == []
    assert len(voted_masks([left], cosines(), NAMES, min_agreement=0.5)) == 1


@pytest.mark.parametrize(("of_clip", "kept"), [(1, ["cat"]), (2, [])])
def test_clips_label_has_its_share_of_the_votes(of_clip, kept):
    one = mask(slice(0, 8), slice(4, 8), of_clip)
    found = voted_masks([one], cosines(), NAMES, min_agreement=0.7, clip_share=0.5)
    assert [each.class_name for each in found] == kept
    assert voted_masks([], cosines(), NAMES, 0.7) == []
