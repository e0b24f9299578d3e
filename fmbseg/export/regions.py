"""Regions of an image, from pseudo masks or from a label map, and the labels they paint."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from fmbseg.export.classes import ClassMap
from fmbseg.export.labelled import NONE, Region
from fmbseg.store import decode_rle, encode_rles
from fmbseg.types import Origin, PseudoMask


def regions_of_masks(
    masks: Sequence[PseudoMask], others: Sequence[PseudoMask]
) -> tuple[Region, ...]:
    """Pseudo masks of one image as regions, the most important first.

    Args:
        masks: those that are exported.
        others: all pseudo masks of the image, of both stages, which confidence is judged by.
    """
    # Here, since they bring torch, for which nobody waits who only looks at a workspace.
    from fmbseg.pseudo.confidence import mask_confidences
    from fmbseg.pseudo.patch_labels import ranked

    scores = mask_confidences(masks, others)
    order = ranked(masks)
    return tuple(
        Region(
            masks[i].class_index, masks[i].mask.rle, masks[i].mask.area_px,
            _whole_box(masks[i].mask.box_xywh_px), scores[i], masks[i].stage,
        )
        for i in order
    )  # fmt: skip


def regions_of_map(
    labels: Integer[np.ndarray, "height width"],
    confidence: Float32[np.ndarray, "height width"] | None,
    origin: Origin = "prediction",
) -> tuple[Region, ...]:
    """Every connected part (8 neighbours) of a class in a label map; larger ones first.

    Args:
        labels: class index per pixel, or `NONE`.
        confidence: of each pixel's label; a region has the mean of its pixels.
        origin: who made the map.
    """
    from scipy import ndimage

    found: list[Region] = []
    for index in np.unique(labels[labels != NONE]).tolist():
        parts, count = ndimage.label(labels == index, structure=np.ones((3, 3)))
        boxes = ndimage.find_objects(parts)
        for number, box in zip(range(1, count + 1), boxes, strict=True):
            inside = np.zeros(labels.shape, bool)
            inside[box] = parts[box] == number
            score = None if confidence is None else float(confidence[inside].mean())
            found.append(region_of(inside, index, score, origin))
    return tuple(sorted(found, key=lambda region: -region.area_px))


def region_of(
    inside: Bool[np.ndarray, "height width"], index: int, score: float | None, origin: Origin
) -> Region:
    """A mask that is not empty as a region."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = (left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)
    return Region(index, encode_rles(inside[None])[0], int(inside.sum()), box, score, origin)


def chosen(
    regions: Iterable[Region], classes: ClassMap, min_confidence: float, min_area_px: float
) -> tuple[Region, ...]:
    """The regions of wanted classes that are sure and large enough, still in the labels' classes.

    A region whose confidence is unknown is kept.
    """
    return tuple(
        region
        for region in regions
        if classes.index_of[region.class_index] != NONE
        and region.area_px >= min_area_px
        and (region.score is None or region.score >= min_confidence)
    )


def in_classes(regions: Iterable[Region], classes: ClassMap) -> tuple[Region, ...]:
    """The same regions in the export's classes."""
    return tuple(
        replace(region, class_index=classes.index_of[region.class_index]) for region in regions
    )


def paint(
    regions: Sequence[Region], image_hw: tuple[int, int], rest: int = NONE
) -> tuple[Int32[np.ndarray, "height width"], Float32[np.ndarray, "height width"]]:
    """One label a pixel; where regions overlap the first one wins.

    Args:
        regions: the most important first.
        image_hw: height and width of the image, px.
        rest: label of the pixels under no region.

    Returns:
        The labels, and the confidence of each: its region's score, 0 where that is unknown or
        there is no region.
    """
    labels = np.full(image_hw, rest, np.int32)
    confidence = np.zeros(image_hw, np.float32)
    for region in reversed(regions):
        inside = decode_rle(region.rle)
        labels[inside] = region.class_index
        confidence[inside] = region.score or 0.0
    return labels, confidence


def doubt_of(confidence: Float32[np.ndarray, "height width"] | None) -> float:
    """How little is known of an image: the area-weighted lack of confidence, 0 to 1.

    A pixel lacks what its label's confidence lacks to 1; a pixel without a label lacks all of it.
    """
    return 1.0 if confidence is None else float(1 - confidence.mean(dtype=np.float64))


def _whole_box(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, width, height = (round(value) for value in box)
    return left, top, width, height
