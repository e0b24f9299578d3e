"""COCO instances, as Datumaro, CVAT and many others write them: run lengths and polygons."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import Mask, corners, of_counts, of_runs, polygon


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The images of all JSON files; masks lie over one another in the file's order.

    A file's masks are in memory together, as it may list them in any order.
    """
    for name in files.named(".json"):
        where = files.where(name)
        try:
            labels = {one["id"]: one["name"] for one in files.json_items(name, "categories.item")}
            drawn: dict[Any, list[tuple[str, Any]]] = {}
            for one in files.json_items(name, "annotations.item"):
                label = labels[one["category_id"]]
                drawn.setdefault(one["image_id"], []).append((label, one["segmentation"]))
            images = list(files.json_items(name, "images.item"))
            if unknown := set(drawn) - {one["id"] for one in images}:
                raise EditError(f"{where}: found masks of an image {min(unknown)} without a name")
            for one in images:
                hw = int(one["height"]), int(one["width"])
                shapes = drawn.pop(one["id"], [])
                yield EditedImage(str(one["file_name"]), hw, partial(_drawn, shapes))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EditError):
                raise
            raise EditError(f"{where}: found no {error}; wanted COCO's instances") from None
        if not labels:
            raise EditError(f"{where}: found no categories; wanted COCO's instances")


def _drawn(shapes: list[tuple[str, Any]], image_hw: tuple[int, int]) -> list[Drawn]:
    return [Drawn.of(str(label), _inside(shape, image_hw)) for label, shape in shapes]


def _inside(shape: Any, image_hw: tuple[int, int]) -> Mask:
    if isinstance(shape, Mapping):
        counts = shape.get("counts")
        if shape.get("size") != list(image_hw):
            raise EditError(f"found a mask of size {shape.get('size')}; wanted {list(image_hw)}")
        if isinstance(counts, str):
            return of_counts(counts, image_hw)
        if isinstance(counts, list) and all(isinstance(run, int) for run in counts):
            return of_runs(counts, image_hw, columns_first=True)
        raise EditError("found a mask without run lengths")
    if not isinstance(shape, list) or not shape:
        raise EditError("found an annotation without a mask")
    inside = np.zeros(image_hw, bool)
    for part in shape:
        numbers = part if isinstance(part, list) else []
        pairs = [numbers[at : at + 2] for at in range(0, len(numbers), 2)]
        inside |= polygon(corners(pairs, image_hw, 3), image_hw)
    return inside
