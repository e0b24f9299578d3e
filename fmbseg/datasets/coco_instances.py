"""Things of COCO drawn from its instance annotations, for trees without stuffthingmaps."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from jaxtyping import UInt8

from fmbseg.datasets.base import DatasetError
from fmbseg.datasets.coco_names import RAW_IDS, THINGS
from fmbseg.datasets.json_stream import elements_of
from fmbseg.types import IGNORE

_THING_OF_CATEGORY = {raw + 1: thing for thing, raw in enumerate(RAW_IDS[: len(THINGS)])}


class InstanceTargets:
    """Label maps drawn from `instances_<split>.json`, which is read when the first is asked for.

    Crowd regions are drawn first, then instances from the largest to the smallest, so that a
    small thing before a large one stays seen (our rule; the annotations say nothing of depth).
    Of the file only outlines and categories are kept.

    Args:
        file: COCO's instance annotations.
        first: index of the first thing; 1 leaves 0 as background for pixels without a thing,
            0 makes those IGNORE.
    """

    def __init__(self, file: Path, *, first: int) -> None:
        self._file = file
        self._first = first
        self._index: _Index | None = None

    def sources(self) -> list[Path]:
        """The one file of annotations."""
        return [self._file]

    def read(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Draw one target.

        Raises:
            DatasetError: the file is damaged, knows no such image, or holds an unknown category.
        """
        if self._index is None:
            self._index = _Index(self._file)
        height, width, instances = self._index.of_image(name)
        empty = 0 if self._first else IGNORE
        target = np.full((height, width), empty, np.uint8)
        regions = [
            (crowd, _rle(outline, height, width), thing) for crowd, outline, thing in instances
        ]
        drawn_last_is_smallest = sorted(
            regions, key=lambda one: (not one[0], -int(pycocotools.mask.area(one[1])))
        )
        for _, rle, thing in drawn_last_is_smallest:
            target[pycocotools.mask.decode(rle) > 0] = thing + self._first
        return target


class _Index:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._images: dict[str, tuple[int, int, int]] = {}
        self._instances: dict[int, list[tuple[bool, Any, int]]] = defaultdict(list)
        try:
            for one in elements_of(file, "images"):
                self._images[one["file_name"]] = (one["id"], one["height"], one["width"])
            for one in elements_of(file, "annotations"):
                self._instances[one["image_id"]].append(self._instance(one))
        except (KeyError, TypeError) as error:
            raise DatasetError(f"{file}: no instance annotations ({error!r})") from None

    def _instance(self, one: dict[str, Any]) -> tuple[bool, Any, int]:
        thing = _THING_OF_CATEGORY.get(one["category_id"])
        if thing is None:
            raise DatasetError(
                f"{self._file}: found category {one['category_id']}; wanted COCO's 80"
            )
        return bool(one["iscrowd"]), one["segmentation"], thing

    def of_image(self, name: str) -> tuple[int, int, list[tuple[bool, Any, int]]]:
        if name not in self._images:
            raise DatasetError(f"{self._file}: no image {name}; wanted the file of its split")
        identity, height, width = self._images[name]
        return height, width, self._instances.get(identity, [])


def _rle(outline: Any, height: int, width: int) -> Any:
    """Run lengths of polygons, of plain run lengths or of compressed ones."""
    if isinstance(outline, list):
        return pycocotools.mask.merge(pycocotools.mask.frPyObjects(outline, height, width))
    if isinstance(outline["counts"], list):
        return pycocotools.mask.frPyObjects(outline, height, width)
    return outline
