"""The few values that travel between modules. Arrays are numpy on disk's side, torch inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Integer, UInt8

IGNORE = 255
"""The label of a pixel or patch that takes part in neither loss nor mIoU."""

Image = UInt8[np.ndarray, "height width 3"]
"""RGB, 0 to 255, EXIF orientation already applied."""

Images = Sequence[UInt8[np.ndarray, "_height _width 3"]]
"""Several images, each of its own size."""

Rle = dict[str, list[int] | str]
"""COCO run-length encoding: `size` = [height, width], `counts` = compressed ASCII string."""

Stage = Literal["1.1", "1.2"]
Origin = Literal["1.1", "1.2", "prediction", "person"]
"""Who labelled a region: a stage of the pseudo masks, a trained model, or a person."""
Role = Literal["clip", "sam", "vision"]
"""What a frozen foundation model is for."""


@dataclass(frozen=True)
class SamMask:
    """One mask of SAM.

    Attributes:
        rle: its pixels.
        area_px: number of its pixels.
        box_xywh_px: left, top, width, height.
        predicted_iou: SAM's own estimate of the mask's quality, about 0 to 1.
        stability: IoU of the mask at two thresholds, 0 to 1.
        points_xy_px: the positive prompts it came from.
    """

    rle: Rle
    area_px: int
    box_xywh_px: tuple[float, float, float, float]
    predicted_iou: float
    stability: float
    points_xy_px: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PseudoMask:
    """A SAM mask with the class CLIP gave it.

    Attributes:
        image: name of the image, relative to its data set's image folder.
        class_index: index into the vocabulary.
        class_name: its name there.
        stage: "1.1" (prompted by CLIP) or "1.2" (automatic mask, labelled by CLIP).
        clip_similarity: cosine of the mean (1.2) or prompt-patch mean (1.1) feature and the text.
        mask: the mask itself.
    """

    image: str
    class_index: int
    class_name: str
    stage: Stage
    clip_similarity: float
    mask: SamMask


@dataclass(frozen=True)
class LabelMap:
    """One class a pixel.

    Attributes:
        labels: index into `class_names`; IGNORE where a method gives no answer.
        class_names: the class list that was asked for.
        similarities: cosine per class and pixel, -1 to 1; None unless asked for.
        best_similarity: cosine of the best class at each pixel, -1 to 1; None unless asked for.
        confidence: the winner's share of the softmax of cosine / temperature over all names that
            competed, 0 to 1; None unless asked for, or where no temperature is known.
    """

    labels: Integer[np.ndarray, "height width"]
    class_names: tuple[str, ...]
    similarities: Float32[np.ndarray, "category height width"] | None = None
    best_similarity: Float32[np.ndarray, "height width"] | None = None
    confidence: Float32[np.ndarray, "height width"] | None = None
