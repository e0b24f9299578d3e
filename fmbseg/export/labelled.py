"""What an export is made of: images with labels, and how a format receives them one by one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32

from fmbseg.types import Origin, Rle

NONE = -1
"""The label of a pixel that belongs to no class."""
Split = Literal["train", "val"]


@dataclass(frozen=True, eq=False)
class Region:
    """A mask of one class; regions of an image may overlap, have holes and several parts.

    Attributes:
        class_index: into the export's class names.
        rle: its pixels.
        area_px: number of its pixels, at least 1.
        box_xywh_px: left, top, width, height of the smallest box around it, whole pixels.
        score: confidence, 0 to 1; None where nothing is known.
        origin: who labelled it.
    """

    class_index: int
    rle: Rle
    area_px: int
    box_xywh_px: tuple[int, int, int, int]
    score: float | None
    origin: Origin


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image with all that is exported of it.

    Attributes:
        name: relative to the image folder, with forward slashes and its suffix.
        stem: unlike that of every other image of the export; may hold folders, no suffix.
        file: the image itself.
        image_hw: its height and width, px, turned upright.
        regions: its masks, the most important first: where they overlap the first one wins.
        labels: class index per pixel, or `NONE`; the regions painted by their rank.
        confidence: of each pixel's label, 0 to 1; None where nothing is known.
        split: the part of the export that it belongs to.
        own_classes: of each region, its class before the export merged and chose classes.
        revision: of the correction that the regions are; 0 where they are none.
    """

    name: str
    stem: str
    file: Path
    image_hw: tuple[int, int]
    regions: tuple[Region, ...]
    labels: Int32[np.ndarray, "height width"]
    confidence: Float32[np.ndarray, "height width"] | None = None
    split: Split = "train"
    own_classes: tuple[int, ...] = ()
    revision: int = 0


@dataclass(frozen=True)
class ExportPlan:
    """What a format must know before the first image.

    Attributes:
        class_names: what the class indices mean.
        images: what becomes of the image files: a symbolic link, a copy, or nothing.
        tolerance_px: how far a polygon may lie from the edge it stands for, px.
        has_val: whether any image belongs to `val`.
        about: where the labels come from, in one line.
    """

    class_names: Sequence[str]
    images: Literal["link", "copy", "leave"] = "copy"
    tolerance_px: float = 1.0
    has_val: bool = False
    about: str = ""


class ExportError(ValueError):
    """A format cannot hold what it was given; the text says what, and what to do."""


@dataclass(frozen=True)
class Format:
    """A layout of labels that other tools read.

    Attributes:
        name: what the user types.
        title: what it is, and who reads it, in a few words.
        write: takes an empty folder, the plan and the images one by one, and keeps none of them.
            What it returns is what the user should know, such as the area that polygons lose; it
            raises `ExportError` for what the format cannot hold.
        overlaps: whether regions may overlap in it; else the label map is what it holds.
        comes_back: whether `fmbseg import` reads it once it was edited.
    """

    name: str
    title: str
    write: Callable[[Path, ExportPlan, Iterable[LabelledImage]], dict[str, object]]
    overlaps: bool
    comes_back: bool = False
