"""Masks without classes put a label map right: inside a mask every pixel gets the usual class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Int32, Integer

from fmbseg.image_size import row_bands
from fmbseg.store import foreground_runs
from fmbseg.types import LabelMap, SamMask


def id_map(
    masks: Sequence[SamMask], image_hw: tuple[int, int]
) -> Int32[np.ndarray, "height width"]:
    """Paint masks from the smallest to the largest, so that the largest one is on top.

    Args:
        masks: of one image.
        image_hw: its size, px.

    Returns:
        1 for the smallest mask, 2 for the next one and so on; 0 under no mask.

    Source: Zhang et al., CorrCLIP, arXiv 2411.10086.
    """
    height, width = image_hw
    pixels = np.zeros(height * width, np.int32)  # column by column, as run lengths go
    ordered = sorted(masks, key=lambda mask: mask.area_px)
    for number, runs in enumerate(foreground_runs([mask.rle for mask in ordered]), start=1):
        for start, end in runs.tolist():
            pixels[start:end] = number
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def corrected(
    labels: Integer[np.ndarray, "height width"], ids: Int32[np.ndarray, "height width"]
) -> Integer[np.ndarray, "height width"]:
    """Give all pixels of an id the label that most of them have; those of id 0 keep their own.

    A tie goes to the lower label. "No label" (IGNORE) counts like a class. Beside its answer this
    holds some rows of pixels and one number for each id and label.

    Args:
        labels: from 0.
        ids: see `id_map`.

    Source: Zhang et al., CorrCLIP, arXiv 2411.10086 (map correction). Our implementation.
    """
    kinds = int(labels.max()) + 1
    counts = np.zeros((int(ids.max()) + 1) * kinds, np.int64)
    for rows in row_bands(labels.shape):
        pairs = ids[rows].astype(np.int64) * kinds + labels[rows]
        counts += np.bincount(pairs.ravel(), minlength=len(counts))
    usual = counts.reshape(-1, kinds).argmax(axis=1).astype(labels.dtype)
    found = labels.copy()
    for rows in row_bands(labels.shape):
        inside = ids[rows] > 0
        found[rows][inside] = usual[ids[rows][inside]]
    return found


def relabelled(found: LabelMap, labels: Integer[np.ndarray, "height width"]) -> LabelMap:
    """The same answer with other labels.

    Where there are similarities, those of a pixel's class before and after change places: the
    best one stays what it was, and it belongs to the new class. So overlapping windows vote for
    what was put right, and a threshold decides as before.

    Args:
        found: with a class for every pixel.
        labels: the new ones, each a class too.
    """
    similarities = found.similarities
    if similarities is not None:
        similarities = _exchanged(similarities, found.labels, labels)
    return replace(found, labels=labels, similarities=similarities)


def _exchanged(
    similarities: Float32[np.ndarray, "category height width"],
    before: Integer[np.ndarray, "height width"],
    after: Integer[np.ndarray, "height width"],
) -> Float32[np.ndarray, "category height width"]:
    changed = similarities.copy()
    rows, cols = np.nonzero(before != after)
    old, new = before[rows, cols], after[rows, cols]
    changed[old, rows, cols] = similarities[new, rows, cols]
    changed[new, rows, cols] = similarities[old, rows, cols]
    return changed
