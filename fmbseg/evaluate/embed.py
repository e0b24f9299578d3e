"""Pictures inside the page: data URIs, as large as a number of bytes allows."""

import base64
import io
from collections.abc import Sequence

from PIL import Image as PilImage

from fmbseg.evaluate.content import Example, GalleryRow

GALLERY_SIDES_PX = (480, 360, 256, 192, 128, 96)
EXAMPLE_SIDES_PX = (320, 256, 192, 128, 96, 64)
Pictured = list[tuple[Example, str]]
"""Examples with their data URIs."""


def embed_gallery(
    rows: Sequence[GalleryRow], columns: Sequence[str], budget_bytes: int
) -> list[tuple[str, list[str | None]]]:
    """Embed the rows' pictures at the largest size within the budget; the last rows may go.

    Args:
        rows: of the gallery.
        columns: their attributes to show.
        budget_bytes: of all data URIs together.

    Returns:
        Name and a data URI (None where the row has no picture) for each column, row by row.
    """
    embedded: list[tuple[str, list[str | None]]] = []
    for side_px in GALLERY_SIDES_PX:
        embedded, total = [], 0
        for row in rows:
            pictures = [getattr(row, column) for column in columns]
            cells = [
                None if p is None else _data_uri(PilImage.fromarray(p), (side_px, side_px))
                for p in pictures
            ]
            total += sum(len(cell) for cell in cells if cell)
            if total > budget_bytes:
                break
            embedded.append((row.name, cells))
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
        The examples of each group with their data URIs, the worst first, then the best.
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


def _extremes_first(example: Example) -> tuple[int, bool]:
    return example.rank, example.side == "best"


def _opened(example: Example) -> PilImage.Image:
    """The picture no larger than it will be needed: a large evaluation has hundreds of them."""
    with PilImage.open(example.picture) as picture:
        picture.thumbnail(_three(EXAMPLE_SIDES_PX[0]), PilImage.Resampling.BOX)
        return picture.convert("RGB")


def _within(group: Sequence[tuple[Example, PilImage.Image]], side_px: int, share: int) -> Pictured:
    kept, total = [], 0
    for example, picture in group:
        uri = _data_uri(picture, _three(side_px))
        total += len(uri)
        if total > share:
            break
        kept.append((example, uri))
    return sorted(kept, key=lambda entry: (entry[0].side == "best", entry[0].rank))


def _three(side_px: int) -> tuple[int, int]:
    """Bounds (width, height) of three pictures side by side, px."""
    return 3 * side_px, side_px


def _data_uri(picture: PilImage.Image, bounds_wh_px: tuple[int, int]) -> str:
    reduced = picture.copy()
    reduced.thumbnail(bounds_wh_px, PilImage.Resampling.BOX)
    buffer = io.BytesIO()
    reduced.save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
