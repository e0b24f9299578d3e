"""Things of COCO drawn from its instance annotations, for trees without stuffthingmaps."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from jaxtyping import UInt8

from fmbseg.datasets.base import DatasetError
from fmbseg.datasets.coco_names import RAW_IDS, THINGS
from fmbseg.datasets.json_stream import elements_of
from fmbseg.types import IGNORE

_Instance = tuple[bool, Any, int]
"""Whether it is a crowd, its outline, the thing."""
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

    def sources(self) -> list[Path]:
        """The one file of annotations."""
        return [self._file]

    def read(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Draw one target.

        Raises:
            DatasetError: the file is damaged, knows no such image, or holds an unknown category.
        """
        images, instances = self._index
        if name not in images:
            raise DatasetError(f"{self._file}: no image {name}; wanted the file of its split")
        identity, height, width = images[name]
        empty = 0 if self._first else IGNORE
        target = np.full((height, width), empty, np.uint8)
        regions = [
            (crowd, _rle(outline, height, width), thing)
            for crowd, outline, thing in instances.get(identity, [])
        ]
        drawn_last_is_smallest = sorted(
            regions, key=lambda one: (not one[0], -int(pycocotools.mask.area(one[1])))
        )
        for _, rle, thing in drawn_last_is_smallest:
            target[pycocotools.mask.decode(rle) > 0] = thing + self._first
        return target

    @cached_property
    def _index(self) -> tuple[dict[str, tuple[int, int, int]], dict[int, list[_Instance]]]:
        """Image name to its id, height and width; image id to its instances."""
        images: dict[str, tuple[int, int, int]] = {}
        instances: dict[int, list[_Instance]] = defaultdict(list)
        try:
            for one in elements_of(self._file, "images"):
                images[one["file_name"]] = (one["id"], one["height"], one["width"])
            for one in elements_of(self._file, "annotations"):
                thing = _THING_OF_CATEGORY.get(one["category_id"])
                if thing is None:
                    raise DatasetError(
                        f"{self._file}: found category {one['category_id']}; wanted COCO's 80"
                    )
                found = bool(one["iscrowd"]), one["segmentation"], thing
                instances[one["image_id"]].append(found)
        except (KeyError, TypeError) as error:
            raise DatasetError(f"{self._file}: no instance annotations ({error!r})") from None
        return images, instances


def _rle(outline: Any, height: int, width: int) -> Any:
    """Run lengths of polygons, of plain run lengths or of compressed ones."""
    if isinstance(outline, list):
        return pycocotools.mask.merge(pycocotools.mask.frPyObjects(outline, height, width))
    if isinstance(outline["counts"], list):
        return pycocotools.mask.frPyObjects(outline, height, width)
    return outline
