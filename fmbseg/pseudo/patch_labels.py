"""From pseudo masks to one label a pixel, and from those to one label a patch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from fmbseg.pseudo.area import overlap
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE, PseudoMask


def label_map_of(
    masks: Sequence[PseudoMask], image_hw: tuple[int, int]
) -> UInt8[np.ndarray, "height width"]:
    """Paint the masks of one image into a map with one label a pixel.

    Where masks overlap, stage 1.1 goes before 1.2, then the higher predicted IoU, then the
    smaller area (then the lower class index, then the run lengths, so that the order in which
    masks are given never matters).

    Args:
        masks: of one image.
        image_hw: its size, px.

    Returns:
        Class index per pixel, IGNORE under no mask.

    Raises:
        ValueError: a mask of another size, or a class index that IGNORE does not leave room for.

    Paper: the rule for overlaps is ours.
    """
    labels = np.full(image_hw, IGNORE, np.uint8)
    for mask in sorted(masks, key=_rank, reverse=True):
        if not 0 <= mask.class_index < IGNORE:
            raise ValueError(
                f"{mask.image}: class index {mask.class_index}; wanted 0 to {IGNORE - 1}, "
                f"because {IGNORE} means 'no label'"
            )
        if mask.mask.rle["size"] != list(image_hw):
            raise ValueError(
                f"{mask.image}: a mask of height x width {mask.mask.rle['size']}; "
                f"wanted {list(image_hw)}"
            )
        labels[decode_rle(mask.mask.rle)] = mask.class_index
    return labels


def patch_labels(
    label_map: Integer[np.ndarray, "height width"], grid_hw: tuple[int, int]
) -> Int64[Tensor, "rows cols"]:
    """Give every patch the label with the largest area on it.

    "No label" takes part like any other label. Areas are exact also where a patch is not a whole
    number of pixels. A tie goes to the lower class index, and to a class before IGNORE.

    Args:
        label_map: class index per pixel, IGNORE for none.
        grid_hw: rows and columns of patches; the grid covers the whole image.

    Returns:
        Class index per patch, IGNORE where that has the largest area.

    Paper: section 3.2; the majority rule is ours.
    """
    height, width = label_map.shape
    down, across = overlap(grid_hw[0], height), overlap(grid_hw[1], width).T
    labels = np.full(grid_hw, IGNORE, np.int64)
    best = np.zeros(grid_hw)
    for label in np.unique(label_map):  # ascending, IGNORE last
        area = down @ ((label_map == label).astype(np.float64) @ across)
        better = area > best
        labels[better] = label
        best[better] = area[better]
    return torch.from_numpy(labels)


def _rank(mask: PseudoMask) -> tuple[bool, float, int, int, str]:
    """The lowest wins."""
    sam = mask.mask
    return (
        mask.stage != "1.1",
        -sam.predicted_iou,
        sam.area_px,
        mask.class_index,
        str(sam.rle["counts"]),
    )
