"""CVAT's segmentation mask 1.1, which is Pascal VOC's layout: a ZIP to upload as annotations."""

from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image as PilImage

from fmbseg.export.cvat_images import label_specification
from fmbseg.export.labelled import ExportError, ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name
from fmbseg.export.region_parts import segments, split_folder, splits
from fmbseg.pictures.colours import palette
from fmbseg.store import encode_image, write_json
from fmbseg.store.growing import growing_path

_MOST_CLASSES = 512
"""So many colours differ."""
_MOST_OBJECTS = 255
BACKGROUND = "background"
"""CVAT's name of pixels without a class."""


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    _require_names(plan)
    placer = ImagePlacer(plan)
    colours = np.concatenate([np.zeros((1, 3), np.uint8), palette(len(plan.class_names))])
    lists: dict[str, list[str]] = {split: [] for split in splits(plan)}
    without_objects = 0
    with growing_path(out / "annotations.zip") as path, ZipFile(path, "w", ZIP_STORED) as archive:
        lines = [
            f"{name}:{','.join(map(str, colour))}::"
            for name, colour in zip((BACKGROUND, *plan.class_names), colours, strict=True)
        ]
        _add(archive, "labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
        for one in images:
            _add(archive, f"SegmentationClass/{one.stem}.png", _png(one.labels + 1, colours))
            numbers, found = segments(one)
            if len(found) <= _MOST_OBJECTS:
                objects = _png(numbers, voc_colours())
                _add(archive, f"SegmentationObject/{one.stem}.png", objects)
            else:
                without_objects += 1
            lists[one.split].append(one.stem)
            placer.place(one, out / f"images/{split_folder(plan, one)}{image_name(one)}")
        for split, names in lists.items():
            listed = split if plan.has_val else "default"
            _add(archive, f"ImageSets/Segmentation/{listed}.txt", names)
    write_json(out / "labels.json", label_specification(plan))
    notes = {"images_with_more_than_255_objects": without_objects} if without_objects else {}
    return {**notes, **placer.notes()}


def voc_colours() -> UInt8[np.ndarray, "256 3"]:
    """Pascal VOC's colours, by which its readers tell objects: bits of the number, spread."""
    numbers = np.arange(256)
    table = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bits = numbers >> (3 * place + channel) & 1
            table[:, channel] |= (bits << (7 - place)).astype(np.uint8)
    return table


def _require_names(plan: ExportPlan) -> None:
    """Refuse what a line `name:r,g,b::` cannot say."""
    if len(plan.class_names) > _MOST_CLASSES:
        raise ExportError(
            f"cvat-masks tells classes by colour and has {_MOST_CLASSES} of them; found "
            f"{len(plan.class_names)} classes. Merge some with export.classes, or export as "
            "cvat-images"
        )
    for name in plan.class_names:
        problem = (
            "CVAT's name of pixels without a class" if name == BACKGROUND
            else "a colon, which ends a name in labelmap.txt" if ":" in name
            else "a # in front, which makes labelmap.txt skip the line" if name.startswith("#")
            else ""
        )  # fmt: skip
        if problem:
            raise ExportError(
                f"cvat-masks: class {name!r}; found {problem}. Rename it with export.classes, or "
                "export as cvat-images"
            )


def _png(
    numbers: Int32[np.ndarray, "height width"], colours: UInt8[np.ndarray, "number 3"]
) -> bytes:
    return encode_image(PilImage.fromarray(colours[numbers]))


def _add(archive: ZipFile, name: str, content: bytes | list[str]) -> None:
    """Add a file with a date that does not change, so that the same labels give the same bytes."""
    data = content if isinstance(content, bytes) else "".join(f"{x}\n" for x in content).encode()
    archive.writestr(ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


FORMAT = Format(
    "cvat-masks",
    "CVAT's segmentation mask 1.1 (Pascal VOC)",
    _write,
    overlaps=False,
    comes_back=True,
)
