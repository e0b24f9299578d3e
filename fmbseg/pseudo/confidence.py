"""How sure a pseudo mask's class is, from what SAM and the two ways of stage 1 say of it."""

from collections.abc import Sequence

import numpy as np

from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE, PseudoMask

UNANSWERED = 0.5
"""Agreement of a pixel that the other stage leaves without a label."""


def mask_confidences(masks: Sequence[PseudoMask], every: Sequence[PseudoMask]) -> list[float]:
    """Confidence of an image's pseudo masks: SAM's predicted IoU times the stages' agreement.

    Stages 1.1 and 1.2 come to a pixel by different ways: one prompts SAM with the patches most
    similar to a name, the other names the masks that SAM proposes unprompted. So the agreement is
    the share of a mask's pixels that the other stage gives the same class; a pixel that it leaves
    without a label counts half.

    Args:
        masks: of one image.
        every: all pseudo masks of that image, of both stages.

    Returns:
        One number a mask, 0 to 1. They order masks well, but are no probabilities before they are
        calibrated against labels.

    Paper: none; the rule is ours.
    """
    if not masks:
        return []
    image_hw = (int(masks[0].mask.rle["size"][0]), int(masks[0].mask.rle["size"][1]))
    painted = {
        stage: label_map_of([one for one in every if one.stage == other], image_hw)
        for stage, other in (("1.1", "1.2"), ("1.2", "1.1"))
        if any(mask.stage == stage for mask in masks)
    }
    found = []
    for mask in masks:
        answers = painted[mask.stage][decode_rle(mask.mask.rle)]
        agreed = np.mean(answers == mask.class_index) + UNANSWERED * np.mean(answers == IGNORE)
        found.append(float(agreed * min(max(mask.mask.predicted_iou, 0.0), 1.0)))
    return found
