"""What the small SAM is trained on: promptable masks of one image, prompts, and the losses."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

_MIN_MASK_PX = 24
_THING_WEIGHT = 2.0


@dataclass(frozen=True)
class ImageMasks:
    """The class-agnostic masks of one image: every thing instance and every stuff region.

    Attributes:
        ids: index of the mask that owns each pixel; the masks tile the image.
        is_thing: per mask.
        area_px: per mask.
    """

    ids: Int64[np.ndarray, "height width"]
    is_thing: Bool[np.ndarray, " mask"]
    area_px: Int64[np.ndarray, " mask"]


def find_masks(
    labels: UInt8[np.ndarray, "height width"], instances: UInt8[np.ndarray, "height width"]
) -> ImageMasks:
    """Number the masks of an image: stuff regions by label, things by instance."""
    keys = np.where(instances > 0, 100 + instances.astype(np.int64), labels.astype(np.int64))
    values, ids, areas = np.unique(keys, return_inverse=True, return_counts=True)
    return ImageMasks(ids.reshape(keys.shape), values > 100, areas)


def choose_masks(masks: ImageMasks, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` mask indices with replacement, things twice as often, tiny masks never."""
    weight = np.where(masks.is_thing, _THING_WEIGHT, 1.0) * (masks.area_px >= _MIN_MASK_PX)
    return rng.choice(len(weight), size=count, p=weight / weight.sum())


def points_inside(
    masks: ImageMasks, chosen: np.ndarray, count: int, rng: np.random.Generator, *, noisy: bool
) -> Float[np.ndarray, "prompt point 2"]:
    """Draw `count` positive points (x, y) in px for each chosen mask.

    With `noisy`, four in ten prompts have their points clustered, and in one prompt of five a
    point is pushed some px away, possibly out of the mask: the method's own prompts are the
    patches most similar to a text, which are neither spread out nor always right.
    """
    points = np.zeros((len(chosen), count, 2), np.float32)
    height, width = masks.ids.shape
    where = {int(m): np.argwhere(masks.ids == m)[:, ::-1] for m in np.unique(chosen)}
    for row, mask in enumerate(chosen):
        inside = where[int(mask)]
        weight = None
        if noisy and rng.random() < 0.4:
            centre, spread_px = inside[rng.integers(len(inside))], rng.uniform(4, 16)
            weight = np.exp(-((inside - centre) ** 2).sum(1) / (2 * spread_px**2)) + 1e-9
            weight /= weight.sum()
            points[row] = inside[rng.choice(len(inside), count, p=weight)]
        else:
            points[row] = inside[rng.integers(len(inside), size=count)]
        if noisy and rng.random() < 0.2:
            points[row, -1] += rng.uniform(-14, 14, 2)
    return points.round().clip(0, [width - 1, height - 1])


def boxes_around(
    masks: ImageMasks, chosen: np.ndarray, rng: np.random.Generator
) -> Float[np.ndarray, "prompt 4"]:
    """Boxes (x0, y0, x1, y1) in px of the chosen masks, every side shaken by up to 3 px."""
    boxes = np.zeros((len(chosen), 4), np.float32)
    for row, mask in enumerate(chosen):
        y, x = np.nonzero(masks.ids == mask)
        boxes[row] = x.min(), y.min(), x.max(), y.max()
    return (boxes + rng.uniform(-3, 3, boxes.shape)).clip(0, masks.ids.shape[0] - 1)


def mask_loss(
    logits: Float[Tensor, "prompt mask height width"],
    targets: Float[Tensor, "prompt height width"],
) -> Float[Tensor, "prompt mask"]:
    """Balanced binary cross entropy plus dice: object and background weigh the same.

    Args:
        logits: mask logits at the low resolution.
        targets: share of each low-resolution pixel that the mask covers, 0 to 1.
    """
    wanted = targets[:, None].expand_as(logits).flatten(2)
    flat = logits.flatten(2)
    inside = F.softplus(-flat) * wanted
    outside = F.softplus(flat) * (1 - wanted)
    entropy = inside.sum(-1) / wanted.sum(-1).clamp(min=1) / 2
    entropy = entropy + outside.sum(-1) / (1 - wanted).sum(-1).clamp(min=1) / 2
    soft = flat.sigmoid()
    overlap = 2 * (soft * wanted).sum(-1) + 1
    return entropy + 1 - overlap / (soft.sum(-1) + wanted.sum(-1) + 1)


def iou_loss(
    predicted: Float[Tensor, "prompt mask"],
    logits: Float[Tensor, "prompt mask height width"],
    targets: Float[Tensor, "prompt height width"],
) -> Float[Tensor, ""]:
    """Squared error of the predicted IoU against the IoU the masks really have."""
    with torch.no_grad():
        found, wanted = logits > 0, (targets > 0.5)[:, None]
        union = (found | wanted).flatten(2).sum(-1).clamp(min=1)
        actual = (found & wanted).flatten(2).sum(-1) / union
    return F.mse_loss(predicted, actual)


def affinity_loss(
    embedding: Float[Tensor, "image dim row column"],
    shares: Float[Tensor, "image mask row column"],
) -> Float[Tensor, ""]:
    """Pull the embeddings of patches in one mask together and of two masks apart.

    Args:
        embedding: the image encoder's output.
        shares: share of each patch that every mask covers; sums to 1 over the masks.

    Source: our own auxiliary term; without it a small SAM from scratch ignores its prompt.
    """
    unit = F.normalize(embedding.flatten(2), dim=1)
    flat = shares.flatten(2)
    same = torch.einsum("bmp,bmq->bpq", flat, flat)
    logits = 10 * torch.einsum("bcp,bcq->bpq", unit, unit) - 5
    return F.binary_cross_entropy_with_logits(logits, same)
