"""What CVAT exports as "CVAT for images 1.1": masks, polygons, boxes and ellipses in XML."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO
from xml.parsers import expat

import numpy as np

from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import (
    Mask,
    corners,
    ellipse,
    of_runs,
    placed,
    polygon,
    rectangle,
    size,
)

Attributes = Mapping[str, str]
Shape = tuple[str, Attributes]
"""Name of an element and its attributes."""

_CHUNK_BYTES = 2**20
_MOST_OF_AN_ELEMENT = 2**28
"""Bytes of one element; more is no annotation."""
_PASSED_OVER = ("tag",)
"""Elements beside masks that say nothing of pixels."""


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The images of all XML files, which may lie in the ZIP that CVAT exports."""
    for name in files.named(".xml"):
        with files.open(name) as stream:
            try:
                yield from _images(stream)
            except expat.ExpatError as error:
                raise EditError(
                    f"{files.where(name)}: no whole XML file ({error}); export it again"
                ) from None
            except (KeyError, EditError) as error:
                raise EditError(
                    f"{files.where(name)}: {error}; wanted a file of CVAT for images 1.1"
                ) from None


def _images(stream: IO[bytes]) -> Iterator[EditedImage]:
    document, fed = _Document(), 0
    while chunk := stream.read(_CHUNK_BYTES):
        document.parser.Parse(chunk)
        fed += len(chunk)
        if fed - document.parser.CurrentByteIndex > _MOST_OF_AN_ELEMENT:
            raise EditError(f"found an element of more than {_MOST_OF_AN_ELEMENT} bytes")
        yield from document.finished()
    document.parser.Parse(b"", True)
    yield from document.finished()


class _Document:
    """Collects the images of a document while it is parsed.

    A document type is refused: entities, which can grow without bound or name files, are declared
    there and nowhere else.
    """

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self._path: list[str] = []
        self._image: Attributes = {}
        self._shapes: list[Shape] = []
        self._finished: list[EditedImage] = []

    def finished(self) -> list[EditedImage]:
        """The images since the last call."""
        found, self._finished = self._finished, []
        return found

    def _doctype(self, *_: object) -> None:
        raise EditError("found a document type, which CVAT does not write")

    def _begin(self, tag: str, attributes: Attributes) -> None:
        self._path.append(tag)
        if len(self._path) == 1 and tag != "annotations":
            raise EditError(f"found <{tag}>")
        if len(self._path) == 2 and tag == "track":
            raise EditError("found a track of a video")
        if self._path == ["annotations", "image"]:
            self._image, self._shapes = attributes, []
        elif len(self._path) == 3 and self._path[1] == "image" and tag not in _PASSED_OVER:
            self._shapes.append((tag, attributes))

    def _end(self, _: str) -> None:
        if self._path == ["annotations", "image"]:
            hw = (_whole(self._image, "height"), _whole(self._image, "width"))
            drawn = partial(_drawn, self._shapes)
            self._finished.append(EditedImage(self._image["name"], hw, drawn))
        self._path.pop()


def _drawn(shapes: list[Shape], image_hw: tuple[int, int]) -> list[Drawn]:
    found = []
    for tag, attributes in sorted(shapes, key=lambda one: _whole(one[1], "z_order", 0)):
        if tag not in _SHAPES:
            raise EditError(f"found a {tag}; wanted masks, polygons, boxes or ellipses")
        if "label" not in attributes:
            raise EditError(f"found a {tag} without a label")
        found.append(Drawn.of(attributes["label"], _SHAPES[tag](attributes, image_hw)))
    return found


def _mask(of: Attributes, image_hw: tuple[int, int]) -> Mask:
    hw = _whole(of, "height"), _whole(of, "width")
    if min(hw) < 1 or hw[0] > image_hw[0] or hw[1] > image_hw[1]:
        raise EditError(f"found a mask of {size(hw)} in an image of {size(image_hw)}")
    try:
        runs = [int(run) for run in of.get("rle", "").split(",")]
    except ValueError:
        raise EditError("found a mask whose rle is no list of numbers") from None
    return placed(of_runs(runs, hw), _whole(of, "left"), _whole(of, "top"), image_hw)


def _polygon(of: Attributes, image_hw: tuple[int, int]) -> Mask:
    pairs = [pair.split(",") for pair in of.get("points", "").split(";")]
    return polygon(corners(pairs, image_hw, 3), image_hw)


def _box(of: Attributes, image_hw: tuple[int, int]) -> Mask:
    low, high = corners(
        [[of.get("xtl"), of.get("ytl")], [of.get("xbr"), of.get("ybr")]], image_hw, 2
    )
    return polygon(rectangle(tuple(low), tuple(high), _degrees(of)), image_hw)


def _ellipse(of: Attributes, image_hw: tuple[int, int]) -> Mask:
    middle, radii = corners(
        [[of.get("cx"), of.get("cy")], [of.get("rx"), of.get("ry")]], image_hw, 2
    )
    return polygon(ellipse(tuple(middle), tuple(radii), _degrees(of)), image_hw)


_SHAPES: dict[str, Callable[[Attributes, tuple[int, int]], Mask]] = {
    "mask": _mask, "polygon": _polygon, "box": _box, "ellipse": _ellipse
}  # fmt: skip


def _whole(of: Attributes, name: str, otherwise: int | None = None) -> int:
    try:
        return int(of[name] if otherwise is None else of.get(name, otherwise))
    except (KeyError, ValueError):
        raise EditError(f"found {name}={of.get(name)!r}; wanted a whole number") from None


def _degrees(of: Attributes) -> float:
    try:
        found = float(of.get("rotation", 0))
    except ValueError:
        found = float("nan")
    if not np.isfinite(found):
        raise EditError(f"found rotation={of['rotation']!r}; wanted degrees")
    return found
