"""Stage 1.2, step 2: CLIP names SAM's masks."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.models.protocols import DenseClip
from fmbseg.pseudo.area import overlap
from fmbseg.store import decode_rle
from fmbseg.types import PseudoMask, SamMask

_PIXELS_AT_ONCE = 2**24


def coverage(masks: Sequence[SamMask], grid_hw: tuple[int, int]) -> Float[Tensor, "mask rows cols"]:
    """How a mask's area is spread over a patch grid.

    Args:
        masks: of one image.
        grid_hw: rows and columns of the grid; a patch need not be a whole number of pixels.

    Returns:
        Fraction of each mask's area that lies on each patch; sums to 1 a mask.
    """
    if not masks:
        return torch.zeros(0, *grid_hw)
    height, width = decode_rle(masks[0].rle).shape
    down = overlap(grid_hw[0], height).astype(np.float32)
    across = overlap(grid_hw[1], width).astype(np.float32).T
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    chunks = []
    for start in range(0, len(masks), step):
        pixels = np.stack([decode_rle(mask.rle) for mask in masks[start : start + step]])
        areas = down @ (pixels.astype(np.float32) @ across)
        chunks.append(areas / areas.sum(axis=(1, 2), keepdims=True))
    return torch.from_numpy(np.concatenate(chunks))


def mask_features(masks: Sequence[SamMask], dense: DenseClip) -> Float[Tensor, "mask dim"]:
    """What CLIP sees under each mask: the mean of the dense map there, at unit length.

    Each patch is weighted by the part of the mask's area that lies on it, so that a mask smaller
    than a patch still has a feature.

    Args:
        masks: of one image, none empty.
        dense: CLIP's encoding of the image.
    """
    rows, cols, _ = dense.patches.shape
    weights = coverage(masks, (rows, cols)).flatten(1)
    means = weights @ dense.patches.flatten(0, 1).float()
    return torch.nn.functional.normalize(means, dim=1)


def label_masks(
    masks: Sequence[SamMask],
    dense: DenseClip,
    texts: Float[Tensor, "category dim"],
    present: Sequence[int],
    class_names: Sequence[str],
    image_name: str,
) -> list[PseudoMask]:
    """Give every mask the nearest class among those present, by its feature (`mask_features`).

    Args:
        masks: of one image, none empty.
        dense: CLIP's encoding of the image.
        texts: unit-length text features of all classes.
        present: class indices to choose from, at least one.
        class_names: of all classes.
        image_name: goes into the masks.

    Returns:
        One labelled mask for each mask, in order. A tie goes to the earlier in `present`.

    Raises:
        ValueError: no class is present.

    Paper: section 3.1.
    """
    if not present:
        raise ValueError(f"{image_name}: no class is present; wanted at least one to choose from")
    if not masks:
        return []
    similarity = mask_features(masks, dense) @ texts[list(present)].float().T
    labelled = []
    for mask, row in zip(masks, similarity, strict=True):
        choice = int(row.argmax())
        labelled.append(
            PseudoMask(
                image=image_name,
                class_index=present[choice],
                class_name=class_names[present[choice]],
                stage="1.2",
                clip_similarity=round(float(row[choice]), 6),
                mask=mask,
            )
        )
    return labelled
