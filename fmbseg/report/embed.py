"""Pictures inside the page: data URIs, as large as a number of bytes allows.

A photograph is embedded once as JPEG; what is painted over it comes as PNG without loss, so that
its colours are the legend's.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PilImage

from fmbseg.pictures.colours import Palette
from fmbseg.pictures.layers import Layer, layer_png, map_layer, masks_layer, resized
from fmbseg.report.content import Example, FileLink, GalleryRow
from fmbseg.store import encode_image
from fmbseg.types import IGNORE, Image

GALLERY_SIDES_PX = (720, 560, 480, 360, 256, 192, 128)
EXAMPLE_SIDES_PX = (480, 320, 256, 192, 128, 96, 64)
MAX_TIMES = 5
"""A small image is enlarged at most so many times."""
MASK_COLUMNS = {"stage_11": "masks of stage 1.1", "stage_12": "masks of stage 1.2",
                "kept": "masks kept for training"}  # fmt: skip
MAP_COLUMNS = {"prediction": "prediction", "truth": "truth"}
_OfAnySize = UInt8[np.ndarray, "_ _ 3"]
"""An RGB picture among others of other sizes."""


@dataclass(frozen=True)
class Painted:
    """One picture of a row; `layer` is a data URI, or None where a step has nothing."""

    label: str
    layer: str | None


@dataclass(frozen=True)
class Embedded:
    """A photograph and what is painted over it.

    Attributes:
        name: of the image.
        size_wh: width and height of the layers, px.
        photo: its data URI.
        layers: what is painted.
        present: class indices that occur in any layer.
        files: where its masks lie.
        remark: why it is shown.
    """

    name: str
    size_wh: tuple[int, int]
    photo: str
    layers: tuple[Painted, ...]
    present: tuple[int, ...]
    files: tuple[FileLink, ...] = ()
    remark: str = ""

    @property
    def bytes(self) -> int:
        """Length of its data URIs."""
        return len(self.photo) + sum(len(one.layer) for one in self.layers if one.layer)


Pictured = list[tuple[Example, Embedded]]
"""Examples with their pictures."""


def embed_gallery(
    rows: Sequence[GalleryRow], palette: Palette, budget_bytes: int
) -> list[Embedded]:
    """Embed the rows' pictures at the largest size within the budget; the last rows may go.

    Args:
        rows: of the gallery.
        palette: a colour per class.
        budget_bytes: of all data URIs together.
    """
    columns = {
        name: label
        for name, label in {**MASK_COLUMNS, **MAP_COLUMNS}.items()
        if any(getattr(row, name) is not None for row in rows)
    }
    embedded: list[Embedded] = []
    for side_px in GALLERY_SIDES_PX:
        embedded, total = [], 0
        for row in rows:
            one = _embed_row(row, columns, palette, side_px)
            total += one.bytes
            if total > budget_bytes:
                break
            embedded.append(one)
        if len(embedded) == len(rows):
            break
    return embedded


def embed_examples(groups: Sequence[Sequence[Example]], budget_bytes: int) -> list[Pictured]:
    """Embed each group's pictures, all at the largest size at which every group fits its share.

    Where even the smallest size is too large, a group keeps its worst and its best in turn.

    Args:
        groups: the examples of one method on one data set each.
        budget_bytes: of all data URIs together; every group has the same share.

    Returns:
        The examples of each group with their pictures, the worst first, then the best.
    """
    share = budget_bytes // max(1, len(groups))
    opened = [[(one, _opened(one)) for one in sorted(group, key=_extremes_first)]
              for group in groups]  # fmt: skip
    embedded: list[Pictured] = []
    for side_px in EXAMPLE_SIDES_PX:
        embedded = [_within(group, side_px, share) for group in opened]
        if all(len(kept) == len(group) for kept, group in zip(embedded, opened, strict=True)):
            break
    return embedded


def _embed_row(
    row: GalleryRow, columns: dict[str, str], palette: Palette, side_px: int
) -> Embedded:
    image_hw = row.image.shape[:2]
    size_hw = _painted_hw(row.image, side_px)
    layers: list[Painted] = []
    present: set[int] = set()
    for column, label in columns.items():
        found = getattr(row, column)
        if found is None:
            layers.append(Painted(label, None))
        elif column in MASK_COLUMNS:
            present |= {mask.class_index for mask in found}
            points = column != "kept"
            layer = masks_layer(
                found, (image_hw[0], image_hw[1]), palette, points=points, size_hw=size_hw
            )
            layers.append(Painted(label, _png_uri(layer)))
        else:
            present |= {int(index) for index in np.unique(found)} - {IGNORE}
            layers.append(Painted(label, _png_uri(map_layer(resized(found, size_hw), palette))))
    return Embedded(
        name=row.name,
        size_wh=(size_hw[1], size_hw[0]),
        photo=_photo_uri(row.image, side_px),
        layers=tuple(layers),
        present=tuple(sorted(present)),
        files=row.files,
        remark=row.remark,
    )


def _painted_hw(image: Image, side_px: int) -> tuple[int, int]:
    """A small image is enlarged by a whole number, so that its pixels stay squares."""
    height, width = _reduced_hw(image, side_px)
    times = max(1, min(MAX_TIMES, side_px // max(height, width)))
    return height * times, width * times


def _extremes_first(example: Example) -> tuple[int, bool]:
    return example.rank, example.side == "best"


def _opened(example: Example) -> tuple[Image, Image, Image]:
    """Photograph, prediction and truth, no larger than they will be needed."""
    with PilImage.open(example.picture) as picture:
        whole = np.asarray(picture.convert("RGB"))
    width = whole.shape[1] // 3
    photo, *maps = (whole[:, place * width : (place + 1) * width] for place in range(3))
    size_hw = _reduced_hw(photo, EXAMPLE_SIDES_PX[0])
    prediction, truth = (resized(one, size_hw) for one in maps)
    return _shrunk(photo, EXAMPLE_SIDES_PX[0]), prediction, truth


def _within(
    group: Sequence[tuple[Example, tuple[_OfAnySize, _OfAnySize, _OfAnySize]]],
    side_px: int,
    share: int,
) -> Pictured:
    kept: Pictured = []
    total = 0
    for example, (photo, prediction, truth) in group:
        size_hw = _reduced_hw(photo, side_px)
        layers = tuple(
            Painted(label, _png_uri(_opaque(resized(one, size_hw))))
            for label, one in (("prediction", prediction), ("truth", truth))
        )
        one = Embedded(
            example.image, (size_hw[1], size_hw[0]), _photo_uri(photo, side_px), layers, ()
        )
        total += one.bytes
        if total > share:
            break
        kept.append((example, one))
    return sorted(kept, key=lambda entry: (entry[0].side == "best", entry[0].rank))


def _reduced_hw(picture: Image, side_px: int) -> tuple[int, int]:
    height, width = picture.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrunk(picture: Image, side_px: int) -> UInt8[np.ndarray, "less_height less_width 3"]:
    height, width = _reduced_hw(picture, side_px)
    reduced = PilImage.fromarray(np.ascontiguousarray(picture))
    return np.asarray(reduced.resize((width, height), PilImage.Resampling.BOX))


def _opaque(picture: Image) -> Layer:
    return np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])


def _photo_uri(picture: Image, side_px: int) -> str:
    small = PilImage.fromarray(_shrunk(picture, side_px))
    content = encode_image(small, "JPEG", quality=86, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def _png_uri(layer: Layer) -> str:
    return "data:image/png;base64," + base64.b64encode(layer_png(layer)).decode()
