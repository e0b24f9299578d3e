"""Images with labels that are hard to export: names, overlaps, holes, parts, nothing at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import NONE, ExportPlan, LabelledImage, Region
from fmbseg.store import encode_image
from tests.support.masks import encode_rle

CLASSES = ("road", '<b>car</b> & "bus"', "l'arbre", "空 sky")
NAMES = {
    "plain.png": "plain",
    "with space/it's <i>.png": "with space/it's <i>",
    'images/a "quote" & 道路.png': 'images/a "quote" & 道路',
    "a.b/two.parts.png": "a.b/two.parts",
    "same.png": "same",
    "same.jpg": "same-jpg",
    "nothing.png": "nothing",
}
"""Name of each image and its stem."""
HW = (24, 37)


def region(inside: np.ndarray, index: int, score: float | None = 0.75, origin="1.1") -> Region:
    rows, columns = np.nonzero(inside)
    box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    return Region(
        index, encode_rle(inside), int(inside.sum()), tuple(int(v) for v in box), score, origin
    )


def box(top: int, left: int, height: int, width: int, hw: tuple[int, int] = HW) -> np.ndarray:
    inside = np.zeros(hw, bool)
    inside[top : top + height, left : left + width] = True
    return inside


def masks_of(name: str) -> list[tuple[np.ndarray, int]]:
    """Masks of an image with their classes, the most important first."""
    ring = box(2, 3, 14, 20) & ~box(5, 6, 3, 4) & ~box(6, 14, 5, 5) | box(8, 15, 1, 2)
    speckled = np.random.default_rng(len(name)).random(HW) < 0.6
    return {
        "plain.png": [(box(0, 0, 24, 20), 0), (box(10, 10, 14, 27), 1)],
        "with space/it's <i>.png": [(ring, 1), (box(4, 4, 9, 30), 3), (box(0, 0, 24, 37), 0)],
        'images/a "quote" & 道路.png': [(speckled, 2), (box(0, 0, 3, 37), 3)],
        "a.b/two.parts.png": [(box(1, 1, 5, 5) | box(15, 20, 4, 1) | box(9, 30, 1, 1), 2)],
        "same.png": [(box(3, 3, 10, 10), 0)],
        "same.jpg": [(box(0, 8, 5, 5), 3)],
        "nothing.png": [],
    }[name]


def labels_of(masks: list[tuple[np.ndarray, int]], hw: tuple[int, int] = HW) -> np.ndarray:
    labels = np.full(hw, NONE, np.int32)
    for row in range(hw[0]):
        for column in range(hw[1]):
            above = [index for inside, index in masks if inside[row, column]]
            labels[row, column] = above[0] if above else NONE
    return labels


def hard_images(folder: Path) -> list[LabelledImage]:
    """The images of `NAMES`, written below the folder; every third one is for `val`."""
    found = []
    for place, (name, stem) in enumerate(NAMES.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rgb = np.random.default_rng(place).integers(0, 256, (*HW, 3), np.uint8)
        kind = "JPEG" if name.endswith("jpg") else "PNG"
        path.write_bytes(encode_image(PIL.Image.fromarray(rgb), kind))
        masks = masks_of(name)
        regions = tuple(
            region(inside, index, None if i == 1 else 0.75, "1.2" if i else "1.1")
            for i, (inside, index) in enumerate(masks)
        )
        confidence = np.random.default_rng(place).random(HW, np.float32) if place else None
        split = "val" if place % 3 == 2 else "train"
        found.append(
            LabelledImage(name, stem, path, HW, regions, labels_of(masks), confidence, split)
        )
    return found


def export(
    kind: str, tmp_path: Path, change: Callable[[ExportPlan], ExportPlan] = lambda plan: plan
) -> tuple[Path, list[LabelledImage], dict[str, object]]:
    """The hard images in one format: its folder, the images, and what the export said."""
    images = hard_images(tmp_path / "photographs")
    plan = change(ExportPlan(CLASSES, tolerance_px=0.0, has_val=True, about="kept masks"))
    notes = write_dataset(kind, tmp_path / "out", plan, iter(images))
    return tmp_path / "out", images, notes


def many_images(folder: Path, count: int = 300) -> tuple[tuple[str, ...], list[LabelledImage]]:
    """Names of classes, and an image of one row: a pixel of every class, and one of none."""
    labels = np.array([[*range(count), NONE]], np.int32)
    path = folder / "long.png"
    folder.mkdir(exist_ok=True, parents=True)
    path.write_bytes(encode_image(PIL.Image.new("RGB", labels.shape[::-1])))
    regions = tuple(region(labels == index, index) for index in range(count))
    one = LabelledImage("long.png", "long", path, labels.shape, regions, labels)
    return tuple(f"class {index}" for index in range(count)), [one]


def many_classes(tmp_path: Path, kind: str, count: int = 300) -> tuple[Path, np.ndarray]:
    """An export of the image of `many_images`, and its labels."""
    names, images = many_images(tmp_path, count)
    write_dataset(kind, tmp_path / "out", ExportPlan(names, tolerance_px=0.0), images)
    return tmp_path / "out", images[0].labels


def pixels(path: Path) -> np.ndarray:
    """The numbers of a PNG, of a palette PNG its indices."""
    with PIL.Image.open(path) as picture:
        return np.array(picture)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def decoded(rle: dict[str, Any]) -> np.ndarray:
    """Pixels of COCO's compressed run lengths: 5 bits a character, columns first."""
    height, width = rle["size"]
    counts: list[int] = []
    value = shift = 0
    for character in rle["counts"]:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    columns = [i % 2 for i, count in enumerate(counts) for _ in range(count)]
    return np.array(columns, bool).reshape(width, height).T
