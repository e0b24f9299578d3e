"""What formats make of a region: its pixels in its box, runs of rows, a rounded score."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from jaxtyping import Bool

from fmbseg.export.labelled import ExportPlan, LabelledImage, Region, Split
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
    runs = [sum(1 for _ in run) for _, run in groupby(inside.ravel().tolist())]
    return [0, *runs] if inside.size and inside.flat[0] else runs


def known_score(region: Region) -> dict[str, float]:
    """A score for JSON, or nothing where none is known."""
    return {} if region.score is None else {"score": round(region.score, _DIGITS)}
