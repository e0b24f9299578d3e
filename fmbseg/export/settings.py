"""What is exported and how: the section `export`."""

from typing import Annotated, Literal

from pydantic import Field

from fmbseg.section import Fraction, Section

FormatName = Literal[
    "png", "coco", "coco-panoptic", "ultralytics", "yolo-seg", "lightly-train", "labelme",
    "cvat-images", "cvat-masks", "label-studio", "fiftyone", "cityscapes",
]  # fmt: skip
Imported = Literal["png", "coco", "labelme", "cvat-images", "cvat-masks", "label-studio"]
"""Formats that `fmbseg import` reads back."""
Source = Literal["kept", "all", "1.1", "1.2", "predictions"]


class ExportParams(Section):
    """Labels in the formats of other tools."""

    formats: tuple[FormatName, ...]
    """folders below exports/ that a run makes, by format (docs/export.md); empty: none"""
    source: Source
    """kept (pseudo masks trained on) | all (of stages 1.1 and 1.2) | "1.1" | "1.2" | predictions
    (of the trained model)"""
    corrections: bool
    """on images that people put right their regions stand in place of the source's, unfiltered by
    confidence"""
    model: str | None
    """trained folder whose predictions are exported; null: the workspace's own"""
    val_fraction: Fraction
    """share of the images that goes to the split val, drawn by the run's seed"""
    val_list: str | None
    """or a text file that names the images of val, one a line"""
    calibrate: bool
    """where images have labels, confidence becomes the share of pixels that are right with it"""
    min_confidence: Fraction
    """regions of less confidence are left out; docs/label.md says what it means"""
    min_area_fraction: Fraction
    """of the image; smaller regions are left out"""
    classes: tuple[str, ...] | None
    """classes to export, vehicle=car=bus for several as one; null: all, as they are"""
    unlabelled: Annotated[str, Field(min_length=1)]
    """what pixels without a label become: none, or the name of a class, such as background"""
    images: Literal["copy", "link", "leave"]
    """the image files beside the labels: copy | link (symbolic) | leave (labels alone)"""
    tolerance_px: Annotated[float, Field(ge=0.0)]
    """how far a polygon may lie from the edge it stands for, in formats made of polygons"""
