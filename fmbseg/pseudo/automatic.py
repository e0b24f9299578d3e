"""Stage 1.2, step 1: SAM's masks from a grid of points over the whole image."""

import numpy as np
import torch
from jaxtyping import Float

from fmbseg.models.protocols import SamEmbedding, SamModel
from fmbseg.pseudo.rasterise import rasterise
from fmbseg.pseudo.settings import AutomaticOptions as AutomaticOptions
from fmbseg.types import Image, SamMask

_POINTS_AT_ONCE = 64
"""Points through SAM's decoder at once; no effect on the result."""


def point_grid(per_side: int, image_hw: tuple[int, int]) -> Float[np.ndarray, "point 2"]:
    """Centres of `per_side` x `per_side` equal cells of the image, row by row; x, y in px."""
    height, width = image_hw
    steps = (np.arange(per_side) + 0.5) / per_side
    return np.stack([np.tile(steps * width, per_side), np.repeat(steps * height, per_side)], axis=1)


def automatic_masks(
    sam: SamModel,
    image: Image,
    options: AutomaticOptions,
    embedding: SamEmbedding | None = None,
) -> list[SamMask]:
    """Propose masks of everything in the image.

    The same filters as segment-anything's `SamAutomaticMaskGenerator` with one crop, in an order
    that costs less and gives the same masks: predicted IoU is looked at before there is a mask.
    Stability, area and box are measured at the image's size. Ours beyond it: the bounds on the
    area, applied before duplicates are dropped, so a whole-image mask cannot push out a large
    stuff region.

    Args:
        sam: the model.
        image: RGB; only encoded when no embedding is given.
        options: grid and filters.
        embedding: SAM's encoding of the image, to share it with stage 1.1.

    Returns:
        Masks, highest predicted IoU first.

    Paper: section 3.1; the order of filters is from segment-anything 1.0.
    """
    if embedding is None:
        embedding = sam.embed(image)
    height, width = embedding.image_hw
    auto = options.points_per_side == "auto"
    per_side = sam.grid_side // 2 if auto else int(options.points_per_side)
    grid = point_grid(per_side, embedding.image_hw)
    masks: list[SamMask] = []
    for start in range(0, len(grid), _POINTS_AT_ONCE):
        points = grid[start : start + _POINTS_AT_ONCE]
        prediction = sam.predict_points(
            embedding, points[:, None, :], lambda iou: iou > options.min_predicted_iou
        )
        found = rasterise(
            sam,
            embedding,
            prediction.logits,
            prediction.scores,
            [((float(points[row, 0]), float(points[row, 1])),) for row in prediction.prompts],
            stability_offset=options.stability_offset,
            min_stability=options.min_stability,
            min_area_px=options.min_area_fraction * height * width,
            max_area_px=options.max_area_fraction * height * width,
        )
        masks.extend(mask for _, mask in found)
    return drop_duplicates(masks, options.nms_iou)


def drop_duplicates(masks: list[SamMask], nms_iou: float) -> list[SamMask]:
    """Non-maximum suppression by box, as segment-anything does it.

    Boxes run from the first to the last pixel's coordinate (not one beyond), which is what
    segment-anything compares; ties keep their order.

    Args:
        masks: any order.
        nms_iou: boxes that overlap by more than this are duplicates.

    Returns:
        The masks that are left, highest predicted IoU first.
    """
    if not masks:
        return []
    xywh = torch.tensor([mask.box_xywh_px for mask in masks])
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:] - 1], dim=1)
    scores = torch.tensor([mask.predicted_iou for mask in masks])
    import torchvision.ops

    return [masks[index] for index in torchvision.ops.nms(boxes, scores, nms_iou).tolist()]
