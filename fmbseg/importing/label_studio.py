"""What Label Studio exports as JSON: brush masks, polygons, rectangles and ellipses of tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import Mask, corners, ellipse, polygon, rectangle

_CHANNELS = 4
_NO_MASKS = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "datetime")


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The tasks of all JSON files that a person has submitted, by their newest annotation.

    A task without one, or with skipped ones alone, is as it was: predictions are no work of a
    person, and neither is an export that nobody has opened.
    """
    for name in files.named(".json"):
        where, tasks = files.where(name), 0
        for task in files.json_items(name, "item"):
            tasks += 1
            try:
                called, annotations = _called(task["data"]), task.get("annotations") or []
                done = [one for one in annotations if not one.get("was_cancelled")]
                newest = max(done, key=lambda one: str(one.get("updated_at", "")), default=None)
                if newest is not None:
                    yield EditedImage(called, None, partial(_drawn, list(newest["result"])))
                elif "predictions" in task or annotations:
                    continue
                else:
                    raise KeyError("annotations")
            except (KeyError, TypeError, AttributeError) as error:
                raise EditError(
                    f"{where}: found a task without {error}; wanted Label Studio's JSON export "
                    "(not JSON-MIN)"
                ) from None
        if not tasks:
            raise EditError(f"{where}: found no task; wanted a list, Label Studio's JSON export")


def _called(data: Mapping[str, Any]) -> str:
    """The image's name: our own, or what its address says."""
    if "name" in data:
        return str(data["name"])
    address = urlsplit(str(data["image"]))
    return parse_qs(address.query).get("d", [unquote(address.path)])[0]


def _drawn(results: list[Mapping[str, Any]], image_hw: tuple[int, int]) -> list[Drawn]:
    found = []
    for result in results:
        about = result if isinstance(result, Mapping) else {}
        kind, value = str(about.get("type")), about.get("value")
        if kind in _NO_MASKS:
            continue
        if kind not in _SHAPES or not isinstance(value, Mapping):
            raise EditError(f"found a result of type {kind}; wanted {', '.join(_SHAPES)}")
        hw = (result.get("original_height"), result.get("original_width"))
        if hw != image_hw:
            raise EditError(f"found a mask of height and width {hw}; wanted {image_hw}")
        labels = value.get(kind)
        if not isinstance(labels, list) or len(labels) != 1:
            raise EditError(f"found a mask with the labels {labels}; wanted one")
        found.append(Drawn.of(str(labels[0]), _SHAPES[kind](value, image_hw)))
    return found


def _brush(value: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    try:
        packed = bytes(value.get("rle") or b"")
    except (TypeError, ValueError):
        raise EditError("found a brush mask that is no list of bytes") from None
    return brush_mask(packed, image_hw)


def brush_mask(packed: bytes, image_hw: tuple[int, int]) -> Mask:
    """The mask of a brush, from a picture of four channels packed in bits.

    First 32 bits with the number of values, 5 bits with a value's bits - 1 and 4 x 4 bits with the
    bits - 1 of the four kinds of run length. Then runs: a bit that says whether one value is
    repeated, two bits for the kind, the length - 1, and the value, or the values. Tools write 255,
    100 or 1 for inside.
    (thi.ng/rle-pack; label-studio-sdk, converter/brush.py.)

    Raises:
        EditError: it is damaged, or of another size, which is known before it takes memory.
    """
    text, at = bin(int.from_bytes(b"\1" + packed, "big"))[3:], 0

    def number(bits: int) -> int:
        nonlocal at
        at += bits
        if at > len(text):
            raise EditError("found a brush mask that is cut off")
        return int(text[at - bits : at], 2)

    wanted = _CHANNELS * image_hw[0] * image_hw[1]
    if (count := number(32)) != wanted:
        raise EditError(f"found a brush mask of {count} values; wanted {wanted}")
    word = number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    lengths: list[int] = []
    left = wanted
    while left:
        repeated, length = number(1), number(sizes[number(2)]) + 1
        if length > left:
            raise EditError("found a brush mask whose runs are too long")
        values += [number(word)] if repeated else [number(word) for _ in range(length)]
        lengths += [length] if repeated else [1] * length
        left -= length
    channels = np.repeat(np.array(values, np.uint32), lengths).reshape(*image_hw, _CHANNELS)
    return np.asarray(channels[..., -1] > 0)


def _polygon(value: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    return polygon(_of_percent(value.get("points"), image_hw, 3), image_hw)


def _rectangle(value: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    x, y, width, height, degrees = _numbers(value, ("x", "y", "width", "height", "rotation"))
    low, high = _of_percent([(x, y), (x + width, y + height)], image_hw, 2)
    return polygon(rectangle(tuple(low), tuple(high), degrees, tuple(low)), image_hw)


def _ellipse(value: Mapping[str, Any], image_hw: tuple[int, int]) -> Mask:
    x, y, radius_x, radius_y, degrees = _numbers(
        value, ("x", "y", "radiusX", "radiusY", "rotation")
    )
    middle, radii = _of_percent([(x, y), (radius_x, radius_y)], image_hw, 2)
    return polygon(ellipse(tuple(middle), tuple(radii), degrees), image_hw)


_SHAPES: dict[str, Callable[[Mapping[str, Any], tuple[int, int]], Mask]] = {
    "brushlabels": _brush, "polygonlabels": _polygon, "rectanglelabels": _rectangle,
    "ellipselabels": _ellipse,
}  # fmt: skip


def _of_percent(points: object, image_hw: tuple[int, int], least: int) -> np.ndarray:
    """Corners in px, from percent of width and height."""
    height, width = image_hw
    return np.asarray(corners(points, (100, 100), least) * np.array([width, height]) / 100)


def _numbers(value: Mapping[str, Any], names: Sequence[str]) -> list[float]:
    try:
        found = [float(value.get(name, 0)) for name in names]
    except (TypeError, ValueError):
        found = [float("nan")]
    if not np.isfinite(found).all():
        raise EditError(f"found a shape without numbers {', '.join(names)}")
    return found
