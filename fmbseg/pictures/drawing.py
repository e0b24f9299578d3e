"""Label maps and masks as pictures: the same class has the same colour in every one of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from fmbseg.pictures.colours import Palette
from fmbseg.pictures.layers import (
    HATCH_RGB,
    check_same_size,
    compose,
    indexed_png,
    map_layer,
    outlines_layer,
    require_colours,
)
from fmbseg.store import encode_image, write_bytes
from fmbseg.types import IGNORE, Image

_PAPER_RGB, _INK_RGB = (255, 255, 255), (28, 28, 32)


def colourise(labels: Integer[np.ndarray, "height width"], palette: Palette) -> Image:
    """Draw a label map.

    Args:
        labels: class index per pixel; IGNORE becomes a dark grey hatch.
        palette: a colour per class.

    Raises:
        ValueError: a label that has no colour.
    """
    return np.ascontiguousarray(map_layer(labels, palette)[..., :3])


def overlay(image: Image, labels: Integer[np.ndarray, "height width"], palette: Palette) -> Image:
    """Draw the regions of a label map over their image: outline and stripes in pure colours.

    Args:
        image: the image, same size as `labels`.
        labels: class index per pixel; nothing is drawn over IGNORE.
        palette: a colour per class.

    Raises:
        ValueError: sizes differ, or a label has no colour.
    """
    check_same_size(image.shape[:2], labels.shape, "label map")
    require_colours(labels, palette)
    return compose(image, outlines_layer(labels, palette))


def legend(
    class_names: Sequence[str], palette: Palette, present: Iterable[int], width_px: int = 480
) -> Image:
    """Draw swatches with names, in as many columns as fit.

    Args:
        class_names: all names.
        palette: a colour per class.
        present: the class indices to show (shown in ascending order, once each; IGNORE is skipped).
        width_px: width of the result; names too long for it are cut short with an ellipsis.

    Returns:
        Dark text on white; height as needed, at least one row.
    """
    indices = sorted({int(index) for index in present} - {IGNORE})
    font = ImageFont.load_default(16)
    swatch, gap, row = 18, 8, 28
    room = float(width_px - 4 * gap - swatch)
    names = [_shorten(class_names[index], font, room) for index in indices]
    widest = max((font.getlength(name) for name in names), default=0.0)
    column = int(widest) + swatch + 4 * gap
    columns = max(1, min(len(names) or 1, (width_px - gap) // column))
    rows = max(1, -(-len(names) // columns))
    sheet = PilImage.new("RGB", (width_px, rows * row + gap), _PAPER_RGB)
    drawer = ImageDraw.Draw(sheet)
    for place, (index, name) in enumerate(zip(indices, names, strict=True)):
        x, y = gap + place // rows * column, gap // 2 + place % rows * row + (row - swatch) // 2
        red, green, blue = (int(v) for v in palette[index])
        box = (x, y, x + swatch, y + swatch)
        drawer.rectangle(box, fill=(red, green, blue), outline=_INK_RGB)
        drawer.text((x + swatch + gap, y + swatch / 2), name, _INK_RGB, font, anchor="lm")
    return np.asarray(sheet)


def with_legend(
    picture: Image, class_names: Sequence[str], palette: Palette, present: Iterable[int]
) -> UInt8[np.ndarray, "taller wider 3"]:
    """Put the legend below a picture; a narrow picture is centred on the 320 px that text needs."""
    height, width, _ = picture.shape
    sheet_width = max(width, 320)
    below = legend(class_names, palette, present, sheet_width)
    above = np.full((height, sheet_width, 3), 255, np.uint8)
    left = (sheet_width - width) // 2
    above[:, left : left + width] = picture
    return np.concatenate([above, below])


def save_png(path: Path, image: Image) -> None:
    """Write an RGB PNG; the file is there whole or not at all."""
    write_bytes(path, encode_image(PilImage.fromarray(image)))


def save_label_png(
    path: Path, labels: Integer[np.ndarray, "height width"], palette: Palette
) -> None:
    """Write a label map as a palette PNG: its values are the labels, viewers show the colours.

    Raises:
        ValueError: more than 255 classes, which eight bits beside IGNORE cannot hold.
    """
    if len(palette) > IGNORE:
        raise ValueError(
            f"{len(palette)} classes do not fit a palette PNG; wanted at most {IGNORE}. "
            "Predict with a shorter class list, or save the array itself"
        )
    require_colours(labels, palette)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = HATCH_RGB[0]
    write_bytes(path, indexed_png(labels.astype(np.uint8), table))


def _shorten(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room_px: float) -> str:
    if font.getlength(name) <= room_px:
        return name
    while name and font.getlength(name + "…") > room_px:
        name = name[:-1]
    return name + "…"
