"""Label maps as PNG files of 8 or 16 bits."""

import numpy as np
from jaxtyping import Int32, UInt8, UInt16
from PIL import Image as PilImage

from fmbseg.export.labelled import NONE, ExportError
from fmbseg.pictures.colours import palette
from fmbseg.pictures.layers import HATCH_RGB, indexed_png
from fmbseg.store import encode_image
from fmbseg.types import IGNORE

_MOST = 65_535

Values = UInt8[np.ndarray, "height width"] | UInt16[np.ndarray, "height width"]
"""What a label PNG holds: 8 bits where the classes fit, else 16."""


def none_value(count: int) -> int:
    """What stands for "no class" beside `count` classes: 255, or 65535 in 16 bits.

    Raises:
        ExportError: more classes than 16 bits hold.
    """
    if count > _MOST:
        raise ExportError(f"{count} classes; a PNG of 16 bits holds at most {_MOST}. Merge some")
    return IGNORE if count <= IGNORE else _MOST


def label_values(labels: Int32[np.ndarray, "height width"], count: int) -> Values:
    """Class indices as they stand in a PNG, `none_value` where there is no class."""
    none = none_value(count)
    kind = np.uint8 if none == IGNORE else np.uint16
    return np.where(labels == NONE, none, labels).astype(kind)


def grey_png(values: Values) -> bytes:
    """A PNG of one channel without a palette, which every program reads as the numbers it holds."""
    return encode_image(PilImage.fromarray(values))


def coloured_png(labels: Int32[np.ndarray, "height width"], count: int) -> bytes:
    """A PNG whose values are class indices and which viewers show in the classes' colours.

    More than 255 classes need 16 bits, which have no palette: it is grey then.
    """
    values = label_values(labels, count)
    if values.dtype != np.uint8:
        return grey_png(values)
    table = np.zeros((256, 3), np.uint8)
    table[:count] = palette(count)
    table[IGNORE] = HATCH_RGB[0]
    return indexed_png(values, table)


def hex_colours(count: int) -> list[str]:
    """The classes' colours as annotation tools write them, such as `#0072b2`."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in palette(count).tolist()]


def require_8_bits(count: int, title: str) -> None:
    """Refuse more classes than 8 bits hold beside 255.

    Raises:
        ExportError: names the format, the limit and what to do.
    """
    if count > IGNORE:
        raise ExportError(
            f"{title} has room for {IGNORE} classes (8 bits, 255 means none); found {count}. "
            "Choose or merge classes with export.classes, or export as png, coco or fiftyone"
        )
