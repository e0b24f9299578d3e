"""Masks from the shapes that annotation tools write: pixels in a box, runs, polygons, ellipses."""

import math
from collections.abc import Sequence

import numpy as np
import pycocotools.mask
from jaxtyping import Bool, Float64, Integer

from fmbseg.importing.edited import EditError
from fmbseg.store import UnreadableImageError, foreground_runs
from fmbseg.store.formats import HEAD_BYTES, open_picture, require_picture

Mask = Bool[np.ndarray, "height width"]
Points = Float64[np.ndarray, "corner 2"]
"""x, y of corners, px; whole numbers are corners of pixels."""

_ELLIPSE_CORNERS = 180
_FAR = 4
"""Corners farther off than so many sides of an image are no part of it."""


def corners(points: object, image_hw: tuple[int, int], least: int) -> Points:
    """Numbers of a file as corners.

    Args:
        points: pairs of x, y.
        image_hw: height and width of the image, px.
        least: so many are needed.

    Raises:
        EditError: they are no numbers, too few, or nowhere near the image.
    """
    try:
        found = np.array(points, np.float64)
    except (ValueError, TypeError, OverflowError):
        found = np.zeros(0)
    shaped = found.ndim == 2 and found.shape[1] == 2 and len(found) >= least
    if not shaped or not np.isfinite(found).all():
        raise EditError(f"found a shape without corners; wanted {least} or more pairs x, y")
    if not (np.abs(found) <= _FAR * max(image_hw)).all():
        raise EditError(f"found a corner far outside of an image of {size(image_hw)}")
    return found


def polygon(points: Points, image_hw: tuple[int, int]) -> Mask:
    """A filled polygon as COCO's tools fill it (pycocotools, which CVAT and Datumaro use)."""
    rle = pycocotools.mask.frPyObjects([points.ravel().tolist()], *image_hw)
    return np.asarray(pycocotools.mask.decode(rle)[..., 0].astype(bool))


def rectangle(
    left_top: tuple[float, float], right_bottom: tuple[float, float], degrees: float = 0.0,
    pivot: tuple[float, float] | None = None,
) -> Points:  # fmt: skip
    """Corners of a rectangle that is turned clockwise about a pivot, by default its middle."""
    (left, top), (right, bottom) = left_top, right_bottom
    found = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return _turned(found, degrees, pivot or ((left + right) / 2, (top + bottom) / 2))


def ellipse(middle: tuple[float, float], radii: tuple[float, float], degrees: float) -> Points:
    """Corners of a polygon that stands for an ellipse, turned clockwise about its middle."""
    angles = np.arange(_ELLIPSE_CORNERS) * (2 * np.pi / _ELLIPSE_CORNERS)
    found = np.stack([np.cos(angles), np.sin(angles)], 1) * radii + middle
    return _turned(found, degrees, middle)


def placed(
    part: Integer[np.ndarray, "box_h box_w"] | Bool[np.ndarray, "box_h box_w"],
    left: int,
    top: int,
    image_hw: tuple[int, int],
) -> Mask:
    """A mask of a box as one of the image; what lies outside of the image is cut off."""
    height, width = image_hw
    inside = np.zeros(image_hw, bool)
    y, x = max(0, top), max(0, left)
    cut = part[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)] != 0
    inside[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return inside


def of_runs(runs: Sequence[int], hw: tuple[int, int], columns_first: bool = False) -> Mask:
    """A mask from the lengths of runs; the first counts pixels outside.

    Raises:
        EditError: they do not fill the box.
    """
    if min(runs, default=-1) < 0 or sum(runs) != math.prod(hw):
        raise EditError(f"found run lengths that do not fill a box of {size(hw)}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(hw[::-1]).T if columns_first else flat.reshape(hw)


def of_counts(counts: str, hw: tuple[int, int]) -> Mask:
    """A mask from COCO's compressed run lengths, which are checked before anything trusts them.

    Raises:
        EditError: they do not fill the image.
    """
    try:
        (pairs,) = foreground_runs([{"size": list(hw), "counts": counts}])
    except (ValueError, IndexError):
        raise EditError(f"found run lengths that do not fill an image of {size(hw)}") from None
    runs = np.diff(np.concatenate([[0], pairs.ravel(), [math.prod(hw)]]))
    return of_runs(runs.tolist(), hw, columns_first=True)


def picture(
    content: bytes, hw: tuple[int, int], modes: tuple[str, ...]
) -> Integer[np.ndarray, "height width *channel"] | Mask:
    """Numbers of a picture; of a palette picture the indices, unless colours are asked for.

    Args:
        content: of its file.
        hw: height and width that it must have, px, which is checked before it is decoded.
        modes: Pillow's names of what is wanted; "RGB" alone turns a palette into colours.

    Raises:
        EditError: no such picture.
    """
    try:
        kind = require_picture(content[:HEAD_BYTES])
        with open_picture(kind, content, math.prod(hw)) as found:
            if found.size != hw[::-1]:
                raise EditError(f"found a mask of {size(found.size[::-1])}; wanted {size(hw)}")
            if modes == ("RGB",) and found.mode in ("P", "RGBA"):
                return np.asarray(found.convert("RGB"))
            if found.mode not in modes:
                raise EditError(
                    f"found a picture of mode {found.mode}; wanted {' or '.join(modes)}"
                )
            found.load()
            return np.asarray(found)
    except EditError:
        raise
    except UnreadableImageError as error:
        raise EditError(f"found a mask that cannot be read ({error.reason})") from None
    except Exception as error:  # decoders raise anything on damaged data
        raise EditError(f"found a mask that cannot be decoded ({error})") from None


def size(hw: tuple[int, int]) -> str:
    """Height and width for a message, width first, as tools show it."""
    return f"{hw[1]} x {hw[0]} px"


def _turned(points: Points, degrees: float, pivot: tuple[float, float]) -> Points:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return np.asarray((points - pivot) @ turn + pivot)
