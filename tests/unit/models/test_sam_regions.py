"""Prompts of point, box and mask against `SamPredictor`, one at a time."""

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from fmbseg.models.sam import SegmentAnything
from fmbseg.models.sam_architecture import build_sam_from_config
from tests.support.official_weights import SAM as SMALL


def sam_of(*, masks_learned=True):
    torch.manual_seed(6)
    model = build_sam_from_config(SMALL)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if masks_learned or "mask_downscaling" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return SegmentAnything(model, torch.device("cpu"))


def asked(height, width, prompts=11):
    """Points, boxes and masks; more than go through at once."""
    rng = np.random.default_rng(2)
    points = rng.uniform([0, 0], [width, height], (prompts, 2))
    corners = np.concatenate([points - rng.uniform(2, 9, (prompts, 2)), points + 5], axis=1)
    return points, corners, torch.from_numpy(rng.normal(size=(prompts, 32, 32))).float()


@pytest.mark.parametrize("image_hw", [(40, 100), (100, 40)])
@pytest.mark.parametrize("masks_learned", [True, False])
def test_regions_give_sam_predictors_single_mask_and_score(image_hw, masks_learned):
    sam = sam_of(masks_learned=masks_learned)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    points, corners, masks = asked(*image_hw)
    found = sam.predict_regions(sam.embed(image), points, corners, masks)
    assert found.predicted_iou.shape == (11, 1)
    assert found.prompts == list(range(11))
    predictor = SamPredictor(sam.model)
    predictor.set_image(image)
    for index in range(11):
        _, quality, logits = predictor.predict(
            points[index : index + 1], np.ones(1), corners[index],
            masks[index : index + 1].numpy() if masks_learned else None, multimask_output=False,
        )  # fmt: skip
        torch.testing.assert_close(
            found.logits[index], torch.tensor(logits[0]), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(
            found.predicted_iou[index], torch.tensor(quality), rtol=1e-3, atol=1e-4
        )


def test_logits_are_made_of_the_wanted_ones_alone():
    sam = sam_of()
    embedding = sam.embed(np.zeros((40, 100, 3), np.uint8))
    everything = sam.predict_regions(embedding, *asked(40, 100))
    limit = everything.predicted_iou.median()
    some = sam.predict_regions(embedding, *asked(40, 100), lambda iou: iou > limit)
    assert 0 < len(some.logits) < 11
    torch.testing.assert_close(some.logits, everything.logits[some.prompts], rtol=1e-5, atol=1e-5)
    none = sam.predict_regions(embedding, *asked(40, 100), lambda iou: iou > 1e9)
    assert none.logits.shape == (0, 32, 32)


def test_maps_lie_as_mask_prompts_do():
    sam = sam_of()
    embedding = sam.embed(np.zeros((40, 100, 3), np.uint8))
    found = sam.downscale(embedding, torch.ones(2, 40, 100))
    assert found.shape == (2, 32, 32)
    wanted = torch.zeros(32, 32)
    wanted[:13] = 1  # 40 of 100 px, the longest side being 32
    assert torch.equal(found, wanted.expand(2, -1, -1))
    ramp = torch.arange(100.0).expand(1, 40, 100)
    back = sam.upscale(embedding, sam.downscale(embedding, ramp))[0]
    assert (back - ramp)[:, 5:-5].abs().max() < 2
