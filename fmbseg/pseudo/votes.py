"""A trained model names SAM's masks: what most of a mask's patches are to it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.pseudo.labelling import coverage
from fmbseg.types import PseudoMask


def voted_masks(
    masks: Sequence[PseudoMask],
    cosines: Float[Tensor, "category rows cols"],
    class_names: Sequence[str],
    min_agreement: float,
    clip_share: float = 0.0,
) -> list[PseudoMask]:
    """The masks whose class is clear, with that class.

    Each patch votes for its best class, with the part of the mask's area that lies on it. CLIP's
    label, which the mask has from stage 1.2, may be given a share of all votes.

    Args:
        masks: of one image, labelled by CLIP.
        cosines: the model's, per class and patch.
        class_names: of all classes.
        min_agreement: a mask whose winner has a smaller share of the votes is left out.
        clip_share: of the votes, 0 to 1, that CLIP's label has.

    Returns:
        Those that are left, in order; `clip_similarity` stays that of CLIP's own label.
    """
    if not masks:
        return []
    best = torch.nn.functional.one_hot(cosines.argmax(0).flatten(), len(class_names)).float()
    share = coverage([one.mask for one in masks], (cosines.shape[1], cosines.shape[2])).flatten(1)
    votes = (1 - clip_share) * (share @ best.cpu())
    for row, mask in zip(votes, masks, strict=True):
        row[mask.class_index] += clip_share
    agreed, winner = votes.max(1)
    return [
        replace(mask, class_index=index, class_name=class_names[index])
        for mask, index, agreement in zip(masks, winner.tolist(), agreed.tolist(), strict=True)
        if agreement >= min_agreement
    ]
