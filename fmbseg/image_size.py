"""Which sizes of images can be used at all, and which are worked on a part at a time."""

from collections.abc import Iterator

MAX_ASPECT = 50.0
"""Longest side over shortest side; beyond it a resized image would not fit into memory."""
MIN_SIDE_PX = 8
"""An image with a shorter side has nothing to cut into patches."""

LARGE_PIXELS = 2**24
"""An image with more pixels says how far it is, and what is drawn of it is shrunk to about this."""
_PIXELS_AT_ONCE = 2**22


def row_bands(size_hw: tuple[int, ...]) -> Iterator[slice]:
    """All rows of an image from the top, some millions of pixels at a time."""
    step = max(1, _PIXELS_AT_ONCE // size_hw[1])
    for top in range(0, size_hw[0], step):
        yield slice(top, min(top + step, size_hw[0]))


def size_problem(image_hw: tuple[int, int]) -> str | None:
    """Say in one short line why no step can use an image of this size, or None."""
    height, width = image_hw
    if min(height, width) < MIN_SIDE_PX:
        return f"{width}x{height} px is smaller than {MIN_SIDE_PX} px"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"{width}x{height} px is too elongated (at most 1 to {MAX_ASPECT:g}); cut it up"
    return None
