"""From pseudo masks to one label a pixel, and from those to one label a patch."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from fmbseg.store import foreground_runs
from fmbseg.types import IGNORE, PseudoMask, Rle


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
    lowest_first = [masks[index] for index in reversed(ranked(masks))]
    for mask in lowest_first:
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
    rles = [mask.mask.rle for mask in lowest_first]
    return painted(rles, [mask.class_index for mask in lowest_first], image_hw)


def painted(
    rles: Sequence[Rle], labels: Sequence[int], image_hw: tuple[int, int]
) -> UInt8[np.ndarray, "height width"]:
    """Paint masks one over the other, the last on top.

    Args:
        rles: the masks, each of the image's size.
        labels: one a mask, 0 to 255.
        image_hw: size of the image, px.

    Returns:
        Label per pixel, IGNORE under no mask.
    """
    height, width = image_hw
    pixels = bytearray([IGNORE]) * (height * width)  # column by column, as run lengths go
    for label, ends in zip(labels, foreground_runs(rles), strict=True):
        one = bytes([label])
        for start, end in ends.tolist():
            pixels[start:end] = one * (end - start)
    return np.ascontiguousarray(np.frombuffer(pixels, np.uint8).reshape(width, height).T)


def patch_labels(
    label_map: Integer[np.ndarray, "height width"], grid_hw: tuple[int, int]
) -> UInt8[Tensor, "rows cols"]:
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
    rows, cols = grid_hw
    down, across = _cut(rows, label_map.shape[0]), _cut(cols, label_map.shape[1])
    pieces = np.ascontiguousarray(label_map)[down.pixel].take(across.pixel, axis=1)
    begins = np.empty(pieces.shape, bool)  # of runs of one label on one patch, row by row
    begins[:, 0] = True
    begins[:, 1:] = (pieces[:, 1:] != pieces[:, :-1]) | (np.diff(across.cell) > 0)
    at = np.flatnonzero(begins)
    row, col = np.divmod(at, pieces.shape[1])
    end = np.append(col[1:], 0)
    end[end == 0] = pieces.shape[1]
    areas = np.diff(down.edge)[row] * (across.edge[end] - across.edge[col])
    label = pieces.ravel()[at]
    labels = np.flatnonzero(np.bincount(label))  # ascending, IGNORE last
    place = np.zeros(IGNORE + 1, np.int64)
    place[labels] = np.arange(len(labels))
    bins = (down.cell[row] * cols + across.cell[col]) * len(labels) + place[label]
    summed = np.bincount(bins, areas, rows * cols * len(labels)).reshape(rows, cols, -1)
    return torch.from_numpy(labels[summed.argmax(2)].astype(np.uint8))


class _Cut(NamedTuple):
    """One axis, cut at the edges of its pixels and of its patches.

    Attributes:
        pixel: that each piece belongs to.
        cell: row or column of patches that each piece belongs to.
        edge: where the pieces begin, and the last one ends, in units of 1/cells of a pixel: whole
            numbers, so that sums of areas stay exact.
    """

    pixel: Int64[np.ndarray, " piece"]
    cell: Int64[np.ndarray, " piece"]
    edge: Int64[np.ndarray, " edge"]


@functools.lru_cache(maxsize=64)
def _cut(cells: int, pixels: int) -> _Cut:
    """The same of a size; many images share one."""
    edges = np.union1d(np.arange(cells) * pixels, np.arange(pixels) * cells)
    return _Cut(edges // cells, edges // pixels, np.append(edges, cells * pixels))


def ranked(masks: Sequence[PseudoMask]) -> list[int]:
    """Places of one image's masks, the one that wins where they overlap first; see `label_map_of`.

    Returns:
        Indices into `masks`.
    """
    return sorted(range(len(masks)), key=lambda index: _rank(masks[index]))


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
