"""The pictures of a preview, as data URIs."""

import base64
from collections.abc import Sequence

import numpy as np
from PIL import Image as PilImage

from fmbseg.pictures.colours import Palette
from fmbseg.pictures.layers import compose, outlines_layer, resized
from fmbseg.preview.seen import Seen
from fmbseg.store import decode_rle, encode_image
from fmbseg.types import IGNORE, Image

CROP_SIDE_PX, IMAGE_SIDE_PX = 168, 336
_AROUND = 0.25
"""So much of a find's own size is shown around it."""
_DIMMED = 0.45
"""Brightness of what does not belong to a find."""


def find_picture(seen: Seen, mask: int, colour: tuple[int, int, int]) -> str:
    """A mask with a little around it: outlined in a colour, all else darker.

    Args:
        seen: the image.
        mask: place in its masks.
        colour: RGB, 0 to 255.
    """
    from scipy.ndimage import binary_dilation

    inside = decode_rle(seen.masks[mask])
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):  # smaller than a pixel of the reduced photo
        return _uri(seen.photo, CROP_SIDE_PX)
    around = round(_AROUND * max(len(rows), len(columns))) + 2
    box = tuple(
        slice(max(0, int(axis[0]) - around), int(axis[-1]) + around + 1) for axis in (rows, columns)
    )
    size_hw = _size_hw(inside[box].shape, CROP_SIDE_PX)
    crop = PilImage.fromarray(np.ascontiguousarray(seen.photo[box])).resize(size_hw[::-1])
    region = resized(inside[box], size_hw)
    edge = binary_dilation(region, iterations=2) & ~region
    picture = np.asarray(crop).astype(np.float32)
    picture[~region] *= _DIMMED
    picture[edge] = colour
    return _uri(picture.astype(np.uint8), CROP_SIDE_PX)


def image_picture(seen: Seen, labels: Sequence[int], colours: Palette) -> str:
    """An image with its masks, small ones on top.

    Args:
        seen: the image.
        labels: class index of each of its masks.
        colours: one a class.
    """
    painted = np.full(seen.photo.shape[:2], IGNORE, np.uint8)
    for place in sorted(range(len(labels)), key=lambda index: -seen.areas[index]):
        painted[decode_rle(seen.masks[place])] = labels[place]
    size_hw = _size_hw(painted.shape, IMAGE_SIDE_PX)
    photo = np.asarray(PilImage.fromarray(seen.photo).resize(size_hw[::-1]))
    return _uri(compose(photo, outlines_layer(resized(painted, size_hw), colours)), IMAGE_SIDE_PX)


def _size_hw(shape: tuple[int, ...], side_px: int) -> tuple[int, int]:
    """The shape with its long side at so many px, enlarged or reduced."""
    scale = side_px / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _uri(picture: Image, side_px: int) -> str:
    size_hw = _size_hw(picture.shape, side_px)
    shown = PilImage.fromarray(picture).resize(size_hw[::-1])
    content = encode_image(shown, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
