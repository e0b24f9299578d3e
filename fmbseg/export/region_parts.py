"""What formats make of a region: its pixels in its box, runs of rows, a rounded score."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int32

from fmbseg.export.labelled import NONE, ExportPlan, LabelledImage, Region, Split
from fmbseg.store import decode_rle

_DIGITS = 4


def splits(plan: ExportPlan) -> tuple[Split, ...]:
    """The parts that the export has."""
    return ("train", "val") if plan.has_val else ("train",)


def split_folder(plan: ExportPlan, one: LabelledImage) -> str:
    """`train/` or `val/` where there are both, for formats that need no such folder."""
    return f"{one.split}/" if plan.has_val else ""


def painted_order(one: LabelledImage) -> Iterator[Region]:
    """The regions so that painting one over the other gives the label map."""
    return reversed(one.regions)


def in_box(region: Region) -> Bool[np.ndarray, "box_height box_width"]:
    """The pixels of a region's box that are its own."""
    left, top, width, height = region.box_xywh_px
    return decode_rle(region.rle)[top : top + height, left : left + width]


def row_runs(inside: Bool[np.ndarray, "height width"]) -> list[int]:
    """Lengths of runs, row after row, px; the first counts pixels outside and may be 0."""
    flat = inside.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def known_score(region: Region) -> dict[str, float]:
    """A score for JSON, or nothing where none is known."""
    return {} if region.score is None else {"score": round(region.score, _DIGITS)}


def segments(
    one: LabelledImage,
) -> tuple[Int32[np.ndarray, "height width"], list[tuple[int, Region | None]]]:
    """What can be seen of each region, without overlaps.

    Returns:
        The number of the segment of each pixel, from 1, or 0 where there is no label; and of each
        segment its class and its region. Pixels with a label and under no region are a segment
        for each class, without a region. A segment that others hide has no pixel.
    """
    numbers = np.zeros(one.image_hw, np.int32)
    found: list[tuple[int, Region | None]] = []
    for region in painted_order(one):
        found.append((region.class_index, region))
        numbers[decode_rle(region.rle)] = len(found)
    bare = (numbers == 0) & (one.labels != NONE)
    for index in np.unique(one.labels[bare]).tolist():
        found.append((index, None))
        numbers[bare & (one.labels == index)] = len(found)
    return numbers, found
