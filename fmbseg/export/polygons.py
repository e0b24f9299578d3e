"""Masks as polygons whose corners are pixels: holes are cut open, separate parts are separate."""

from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from jaxtyping import Bool, Int64
from PIL import Image as PilImage
from PIL import ImageDraw

Polygon = Int64[np.ndarray, "_ 2"]
"""x, y of pixels, px; closed by itself; at least three corners."""
_Corner = tuple[int, int]

_INSIDE = 0.999
"""Contours of a mask at this level round to the outermost pixels inside it."""


def polygons(inside: Bool[np.ndarray, "height width"], tolerance_px: float) -> list[Polygon]:
    """One polygon for each part of a mask that is connected by the sides of its pixels.

    A polygon runs through the centres of the outermost pixels, as OpenCV's contours do. Filled
    with its outline (`cv2.fillPoly`) it covers the mask exactly at tolerance 0. A hole is joined
    to the outline by a cut of no width, there and back through pixels of the mask.

    Args:
        inside: the mask.
        tolerance_px: how far the outline may be from a pixel that is left out as a corner, px
            (Douglas and Peucker, 1973).
    """
    padded = np.pad(inside, 1)
    generator = contour_generator(z=padded.astype(np.float64), fill_type=FillType.OuterOffset)
    shapes: Any = generator.filled(_INSIDE, 2.0)  # the fill type says which of many it is
    points, offsets = shapes
    found = []
    for part, at in zip(points, offsets, strict=True):
        rings = [_ring(part[a:b]) for a, b in pairwise(at)]
        corners, fixed = _cut_open(rings, padded)
        kept = _simplified(np.array(corners, np.int64), fixed, tolerance_px)
        found.append(kept - 1)
    return found


def fill(polygon: Polygon, image_hw: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """The pixels of a polygon, its outline included."""
    sheet = PilImage.new("L", (image_hw[1], image_hw[0]))
    ImageDraw.Draw(sheet).polygon([(int(x), int(y)) for x, y in polygon], fill=1, outline=1)
    return np.asarray(sheet).astype(bool)


def _ring(points: np.ndarray) -> list[_Corner]:
    """Pixels of a contour in order, without the repeated last one and without doubles."""
    pixels = [(int(x), int(y)) for x, y in np.rint(points)]
    ring = [one for one, before in zip(pixels[1:], pixels[:-1], strict=True) if one != before]
    return ring or pixels[:1]


def _cut_open(
    rings: list[list[_Corner]], inside: Bool[np.ndarray, "height width"]
) -> tuple[list[_Corner], set[int]]:
    """Join holes to the outline, from left to right: what lies left of a hole is joined already.

    Args:
        rings: the outline, then the holes.
        inside: the mask, with an empty margin.

    Returns:
        The corners of one ring, and the places of those that must stay.
    """
    ring = [(corner, False) for corner in rings[0]]
    for hole in sorted(rings[1:], key=min):
        first = hole.index(min(hole))
        x, y = hole[first]
        while inside[y, x - 1]:
            x -= 1
        at = next(place for place, (corner, _) in enumerate(ring) if corner == (x, y))
        around = [(corner, False) for corner in hole[first + 1 :] + hole[:first]]
        cut = [(hole[first], True), *around, (hole[first], True), ((x, y), True)]
        ring[at : at + 1] = [((x, y), True), *cut]
    return [corner for corner, _ in ring], {i for i, (_, fixed) in enumerate(ring) if fixed}


def _simplified(corners: Polygon, fixed: set[int], tolerance_px: float) -> Polygon:
    """The corners that are needed to stay within the tolerance of all the others."""
    farthest = int(((corners - corners[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([corners, corners[:1]])
    ends = sorted(fixed | {0, farthest, len(corners)})
    keep = set(ends)
    spans = list(pairwise(ends))
    while spans:
        a, b = spans.pop()
        if b - a < 2:
            continue
        squares = _squared_distances(closed[a + 1 : b], closed[a], closed[b])
        worst = int(squares.argmax())
        if squares[worst] > tolerance_px**2:
            middle = a + 1 + worst
            keep.add(middle)
            spans += [(a, middle), (middle, b)]
    kept = closed[sorted(keep - {len(corners)})]
    return np.concatenate([kept, np.repeat(kept[-1:], max(0, 3 - len(kept)), 0)])


def _squared_distances(points: Polygon, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From each point to the nearest of the straight way between two others, px squared."""
    along, off = end - start, points - start
    share = (off @ along / max(1, along @ along)).clip(0, 1)
    away = off - share[:, None] * along
    return np.asarray((away * away).sum(1))
