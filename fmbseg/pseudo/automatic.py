"""Stage 1.2, step 1: SAM's masks from a grid of points over the whole image."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fmbseg.models.protocols import SamEmbedding, SamModel
from fmbseg.pseudo.rasterise import Measures, PointsXyPx, encode, measure
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
    Stability, area and box are measured at the image's size, and run lengths are made of the masks
    that are left at the end. Until then the low-resolution logits of all of good predicted IoU are
    held, 256 KB a mask with SAM's own sizes. Ours beyond it: the bounds on the area,
    applied before duplicates are dropped, so a whole-image mask cannot push out a large stuff
    region.

    Args:
        sam: the model.
        image: RGB; only encoded when no embedding is given.
        options: grid and filters.
        embedding: SAM's encoding of the image, to share it with stage 1.1.

    Returns:
        Masks, highest predicted IoU first.

    Paper: section 3.1; the order of filters is from segment-anything 1.0.
    """
    return masks_of_embedded(sam, embedding or sam.embed(image), options)


def masks_of_embedded(
    sam: SamModel, embedding: SamEmbedding, options: AutomaticOptions
) -> list[SamMask]:
    """`automatic_masks` of an image that SAM has encoded."""
    height, width = embedding.image_hw
    auto = options.points_per_side == "auto"
    per_side = sam.grid_side // 2 if auto else int(options.points_per_side)
    grid = point_grid(per_side, embedding.image_hw)
    logits: list[Tensor] = []
    points: list[PointsXyPx] = []
    scores: list[Tensor] = []
    parts: list[Measures] = []
    for some in np.split(grid, range(_POINTS_AT_ONCE, len(grid), _POINTS_AT_ONCE)):
        prediction = sam.predict_points(
            embedding, some[:, None, :], lambda iou: iou > options.min_predicted_iou
        )
        measures = measure(sam, embedding, prediction.logits, options.stability_offset)
        good = (
            (measures.stability >= options.min_stability)
            & (measures.area_px >= max(options.min_area_fraction * height * width, 1))
            & (measures.area_px <= options.max_area_fraction * height * width)
        )
        rows, prompts = good.nonzero()[:, 0], prediction.prompts
        logits.extend(prediction.logits[row] for row in rows.tolist())
        points.extend((tuple(some[prompts[row]].tolist()),) for row in rows.tolist())
        scores.append(prediction.scores[rows])
        parts.append(measures.of(rows))
    measured, predicted_iou = Measures.joined(parts), torch.cat(scores)
    best = without_duplicates(measured.corners_px, predicted_iou, options.nms_iou)
    if len(best) == 0:
        return []
    return encode(
        sam, embedding, torch.stack([logits[row] for row in best.tolist()]), predicted_iou[best],
        [points[row] for row in best.tolist()], measured.of(best),
    )  # fmt: skip


def without_duplicates(
    corners_px: Int64[Tensor, "mask 4"], scores: Float[Tensor, " mask"], nms_iou: float
) -> Int64[Tensor, " kept"]:
    """Non-maximum suppression by box, as segment-anything does it; ties keep their order.

    Args:
        corners_px: left, top, right, bottom: first and last pixel's coordinates, which is what
            segment-anything compares.
        scores: one a mask.
        nms_iou: boxes that overlap by more than this are duplicates.

    Returns:
        The masks that are left, highest score first.
    """
    import torchvision.ops

    kept: Tensor = torchvision.ops.nms(corners_px.float(), scores, nms_iou)
    return kept
