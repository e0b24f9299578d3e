"""All formats of an export; a new one is a file beside this one and a line in `FORMATS`."""

from collections.abc import Iterable
from pathlib import Path

from fmbseg.export import (
    cityscapes,
    coco,
    cvat_images,
    cvat_masks,
    fiftyone,
    label_studio,
    labelme,
    lightly_train,
    panoptic,
    png,
    ultralytics,
    yolo_seg,
)
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage

FORMATS: dict[str, Format] = {
    one.FORMAT.name: one.FORMAT
    for one in (
        png, coco, panoptic, ultralytics, yolo_seg, lightly_train, labelme, cvat_images,
        cvat_masks, label_studio, fiftyone, cityscapes,
    )
}  # fmt: skip
"""By the name that users type."""


def write_dataset(
    format_name: str, out: Path, plan: ExportPlan, images: Iterable[LabelledImage]
) -> dict[str, object]:
    """Write images and labels as a data set; an image's labels are written when it comes.

    Args:
        format_name: a key of `FORMATS`.
        out: an empty folder, or one that is not there yet.
        plan: classes, and what becomes of the image files.
        images: asked for once, one after the other; none is kept.

    Returns:
        What the user should know of it, by name: JSON values; may be empty.

    Raises:
        ExportError: the format cannot hold these classes or names; the text says what to do.
        KeyError: no such format.
    """
    return FORMATS[format_name].write(out, plan, images)
