"""Which sizes of images can be used at all."""

MAX_ASPECT = 50.0
"""Longest side over shortest side; beyond it a resized image would not fit into memory."""
MIN_SIDE_PX = 8
"""An image with a shorter side has nothing to cut into patches."""


def size_problem(image_hw: tuple[int, int]) -> str | None:
    """Say in one short line why no step can use an image of this size, or None."""
    height, width = image_hw
    if min(height, width) < MIN_SIDE_PX:
        return f"{width}x{height} px is smaller than {MIN_SIDE_PX} px"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"{width}x{height} px is too elongated (at most 1 to {MAX_ASPECT:g}); cut it up"
    return None
