"""Masks and labels painted over a photograph, every painted pixel in its class's own colour.

Nothing is blended: a region is an opaque outline with sparse opaque stripes, and a label map is
opaque. So a colour in the picture is the legend's colour, whatever lies below.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image as PilImage
from PIL import ImageDraw

from fmbseg.pictures.colours import Palette
from fmbseg.store import decode_rle, encode_image
from fmbseg.types import IGNORE, Image, PseudoMask

Layer = UInt8[np.ndarray, "height width 4"]
"""RGBA, 0 to 255; alpha is 0 (the photograph shows) or 255."""

INK_RGB = (20, 20, 24)
"""The fine line inside an outline, and the ring around a prompt point."""
POINT_RGB = (255, 255, 255)
HATCH_RGB = ((58, 58, 62), (104, 104, 110))
"""The two greys of pixels without a class."""
_HATCH_PERIOD_PX = 8
_LINE_SHARE = 110


def masks_layer(
    masks: Sequence[PseudoMask],
    image_hw: tuple[int, int],
    palette: Palette,
    *,
    points: bool = True,
    size_hw: tuple[int, int] | None = None,
) -> Layer:
    """Paint pseudo masks, small ones on top of large ones.

    Args:
        masks: of one image, of either stage.
        image_hw: height and width of that image, px.
        palette: a colour per class.
        points: also paint the prompt points of stage 1.1, white with a dark ring.
        size_hw: of the layer; the image's own where None.

    Raises:
        ValueError: a mask of another size than the image.
    """
    height, width = size_hw or image_hw
    layer = np.zeros((height, width, 4), np.uint8)
    for pseudo in sorted(masks, key=lambda pseudo: -pseudo.mask.area_px):
        inside = decode_rle(pseudo.mask.rle)
        check_same_size(image_hw, inside.shape, f"mask of {pseudo.class_name!r}")
        _paint(layer, resized(inside, (height, width)), palette, pseudo.class_index)
    if points:
        _paint_points(layer, [m for m in masks if m.stage == "1.1"], image_hw)
    return layer


def outlines_layer(
    labels: Integer[np.ndarray, "height width"], palette: Palette, none: int = IGNORE
) -> Layer:
    """Paint the regions of a label map as outlines with stripes; pixels of `none` stay clear."""
    layer = np.zeros((*labels.shape, 4), np.uint8)
    for index in np.unique(labels[labels != none]):
        _paint(layer, labels == index, palette, int(index))
    return layer


def map_layer(labels: Integer[np.ndarray, "height width"], palette: Palette) -> Layer:
    """Paint a label map, all of it opaque; pixels of IGNORE are a dark grey hatch.

    Raises:
        ValueError: a label that has no colour.
    """
    require_colours(labels, palette)
    ignored = labels == IGNORE
    layer = np.full((*labels.shape, 4), 255, np.uint8)
    layer[~ignored, :3] = palette[labels[~ignored]]
    layer[ignored, :3] = _grey_hatch(labels.shape)[ignored]
    return layer


def require_colours(labels: Integer[np.ndarray, "height width"], palette: Palette) -> None:
    """Refuse a label map with a label that has no colour.

    Raises:
        ValueError: such a label is neither IGNORE nor a place in the palette.
    """
    wrong = np.unique(labels[(labels != IGNORE) & ((labels < 0) | (labels >= len(palette)))])
    if len(wrong):
        raise ValueError(
            f"labels {wrong[:5].tolist()} have no colour: the palette has {len(palette)}; "
            f"wanted 0 to {len(palette) - 1}, or {IGNORE} for ignored pixels"
        )


def compose(image: Image, layer: Layer) -> Image:
    """The photograph with a layer of its size on top."""
    check_same_size(image.shape[:2], layer.shape[:2], "layer")
    return np.where(layer[..., 3:] > 0, layer[..., :3], image)


def layer_png(layer: Layer) -> bytes:
    """A layer as PNG without loss; small, because it has few colours."""
    packed = layer.view(np.uint32)[..., 0]
    values = np.unique(packed)
    if len(values) > 256:
        return encode_image(PilImage.fromarray(layer))
    table = values.view(np.uint8).reshape(-1, 4)
    places = np.searchsorted(values, packed).astype(np.uint8)
    return indexed_png(places, table[:, :3], transparency=table[:, 3].tobytes())


def indexed_png(
    places: UInt8[np.ndarray, "height width"], palette: Palette, **options: Any
) -> bytes:
    """A PNG whose values are places in a palette of at most 256 colours."""
    picture = PilImage.fromarray(places).convert("L")
    picture.putpalette(palette.tobytes())
    return encode_image(picture, **options)


def resized(
    values: Bool[np.ndarray, "height width"] | Integer[np.ndarray, "height width *channels"],
    size_hw: tuple[int, int],
) -> np.ndarray:
    """Labels, a mask or colours at another size: every pixel takes the nearest one's value."""
    if values.shape[:2] == size_hw:
        return values
    rows = (np.arange(size_hw[0]) + 0.5) * values.shape[0] / size_hw[0]
    columns = (np.arange(size_hw[1]) + 0.5) * values.shape[1] / size_hw[1]
    return np.asarray(values[rows.astype(int)[:, None], columns.astype(int)])


def check_same_size(image_hw: tuple[int, ...], found_hw: tuple[int, ...], what: str) -> None:
    """Refuse what is drawn over an image of another size.

    Raises:
        ValueError: with both sizes.
    """
    if tuple(image_hw) != tuple(found_hw):
        raise ValueError(
            f"the {what} is {found_hw[0]}x{found_hw[1]} px, its image {image_hw[0]}x"
            f"{image_hw[1]} (height x width); wanted equal sizes"
        )


def _paint(
    layer: Layer, inside: Bool[np.ndarray, "height width"], palette: Palette, index: int
) -> None:
    """Outline and stripes of one region; whatever was painted below it goes."""
    if not inside.any():
        return
    line = max(1, round(max(inside.shape) / _LINE_SHARE))
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, region = layer[box], inside[box]
    core = _eroded(region, line)
    colour = (*palette[index].tolist(), 255)
    part[region] = 0
    part[core & _stripes(box, index, line)] = colour
    if line > 1:
        part[core & ~_eroded(core, 1)] = (*INK_RGB, 255)
    part[region & ~core] = colour


def _eroded(inside: Bool[np.ndarray, "height width"], px: int) -> Bool[np.ndarray, "height width"]:
    """Pixels further than `px` steps to a 4-neighbour from the outside."""
    from scipy.ndimage import binary_erosion

    return np.asarray(binary_erosion(inside, iterations=px))


def _stripes(box: tuple[slice, slice], index: int, line: int) -> Bool[np.ndarray, "rows columns"]:
    """Stripes in one of four directions, so that neighbours differ by more than colour."""
    y, x = (np.arange(side.start, side.stop, dtype=np.int32) for side in box)
    y = y[:, None]
    along = (x + y, x - y, y + 0 * x, x + 0 * y)[index % 4]
    width = max(1, line // 2)
    return np.asarray(along % (8 * width) < width)


def _paint_points(layer: Layer, masks: Sequence[PseudoMask], image_hw: tuple[int, int]) -> None:
    height, width = layer.shape[:2]
    scale = height / image_hw[0], width / image_hw[1]
    radius = max(1.5, min(height, width) / 90)
    canvas = PilImage.fromarray(layer)
    drawer = ImageDraw.Draw(canvas)
    for left, top in (point for pseudo in masks for point in pseudo.mask.points_xy_px):
        x, y = left * scale[1], top * scale[0]
        for reach, fill in ((radius * 1.7, INK_RGB), (radius, POINT_RGB)):
            drawer.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(*fill, 255))
    layer[:] = np.asarray(canvas)


def _grey_hatch(shape_hw: tuple[int, ...]) -> Image:
    y, x = np.indices(shape_hw[:2])
    stripe = (x + y) % _HATCH_PERIOD_PX < 2
    return np.where(stripe[..., None], HATCH_RGB[1], HATCH_RGB[0]).astype(np.uint8)
