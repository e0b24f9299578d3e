"""What LabelMe saved: a JSON file an image, with masks, polygons, rectangles and circles."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import Mask, corners, picture, placed

_MASK_MODES = ("1", "L", "P")


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The images of all JSON files, each called like its file."""
    for name in files.named(".json"):
        content = files.json_object(name)
        shapes = content.get("shapes")
        if not isinstance(shapes, list) or "imagePath" not in content:
            raise EditError(
                f"{files.where(name)}: found no shapes; wanted a JSON file that LabelMe saved"
            )
        height, width = content.get("imageHeight"), content.get("imageWidth")
        hw = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        yield EditedImage(name[: -len(".json")], hw, partial(_drawn, shapes))


def _drawn(shapes: list[Mapping[str, Any]], image_hw: tuple[int, int]) -> list[Drawn]:
    found = []
    for shape in shapes:
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str):
            raise EditError("found a shape without a label")
        found.append(Drawn.of(label, _inside(shape, image_hw)))
    return found


def _inside(shape: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    """Pixels of a shape as LabelMe's own `shape_to_mask` fills it.

    Source: labelme 6.3, labelme/utils/shape.py.
    """
    kind = shape.get("shape_type", "polygon")
    if kind == "mask":
        return _mask(shape, image_hw)
    if kind not in ("polygon", "rectangle", "circle", "oriented_rectangle"):
        raise EditError(f"found a {kind} of {shape['label']!r}; wanted a mask or a closed shape")
    needed = 2 if kind in ("rectangle", "circle") else 3
    points = corners(shape.get("points", []), image_hw, needed)
    sheet = PilImage.new("L", (image_hw[1], image_hw[0]))
    draw = ImageDraw.Draw(sheet)
    if kind == "circle":
        (x, y), edge = points[0], points[1]
        radius = float(np.hypot(*(points[0] - edge)))
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    elif kind == "rectangle":
        low, high = points[:2].min(0), points[:2].max(0)
        draw.rectangle([*low.tolist(), *high.tolist()], outline=1, fill=1)
    else:
        draw.polygon([(x, y) for x, y in points.tolist()], outline=1, fill=1)
    return np.asarray(sheet).astype(bool)


def _mask(shape: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    box = corners(shape.get("points", []), image_hw, 2)
    (left, top), (right, bottom) = box[:2].astype(int).tolist()
    if left > right or top > bottom:
        raise EditError(f"found a mask of {shape['label']!r} without a box")
    try:
        content = base64.b64decode(shape.get("mask") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise EditError(f"found a mask of {shape['label']!r} that is no PNG") from None
    part = picture(content, (bottom - top + 1, right - left + 1), _MASK_MODES)
    return placed(part, left, top, image_hw)
