"""COCO's JSON written while the images come: two lists grow, none of them in memory."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fmbseg.export.labelled import ExportPlan
from fmbseg.store.growing import growing_file, passing_file


class JsonList:
    """The items of a JSON list, a line each."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.count = 0

    def add(self, item: object) -> None:
        """Write one more item."""
        self._stream.write(",\n" if self.count else "\n")
        self._stream.write(json.dumps(item, separators=(",", ":"), allow_nan=False))
        self.count += 1


@contextmanager
def json_list(path: Path) -> Iterator[JsonList]:
    """A JSON file that is one list."""
    with growing_file(path) as stream:
        stream.write("[")
        yield JsonList(stream)
        stream.write("\n]\n")


@contextmanager
def coco_file(
    path: Path, plan: ExportPlan, category: Mapping[str, object]
) -> Iterator[tuple[JsonList, JsonList]]:
    """A COCO file with all of the plan's categories; their ids are class index + 1.

    Args:
        path: target.
        plan: names the classes.
        category: further keys of every category.

    Yields:
        The list of images and the list of annotations.
    """
    head: dict[str, Any] = {
        "info": {"description": plan.about},
        "licenses": [],
        "categories": [
            {"id": index, "name": name, "supercategory": "", **category}
            for index, name in enumerate(plan.class_names, start=1)
        ],
    }
    with growing_file(path) as stream, passing_file(path.parent) as annotations:
        stream.write(json.dumps(head, separators=(",", ":"))[:-1] + ',\n"images":[')
        yield JsonList(stream), JsonList(annotations)
        stream.write('\n],\n"annotations":[')
        annotations.seek(0)
        shutil.copyfileobj(annotations, stream)
        stream.write("\n]}\n")
