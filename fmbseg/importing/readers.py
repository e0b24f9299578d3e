"""All formats that an import reads; a new one is a file beside this one and a line here."""

from collections.abc import Callable, Iterator

from fmbseg.export.record import ExportRecord
from fmbseg.importing import coco, cvat_images, cvat_masks, label_studio, labelme, png
from fmbseg.importing.edited import EditedImage
from fmbseg.importing.files import Files

READERS: dict[str, Callable[[Files, ExportRecord], Iterator[EditedImage]]] = {
    "png": png.read, "coco": coco.read, "labelme": labelme.read,
    "cvat-images": cvat_images.read, "cvat-masks": cvat_masks.read,
    "label-studio": label_studio.read,
}  # fmt: skip
"""By the name that users type, which is that of the format of the export.

A reader takes what a tool wrote and the record of the export, and yields the images one by one.
"""
