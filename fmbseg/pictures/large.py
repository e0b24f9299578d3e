"""Pictures too large for a viewer: counted some rows at a time, shrunk before they are drawn."""

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image as PilImage

from fmbseg.image_size import LARGE_PIXELS, row_bands
from fmbseg.pictures.layers import resized
from fmbseg.types import Image

Labels = Integer[np.ndarray, "height width"]
ShownLabels = Integer[np.ndarray, "shown_height shown_width"]


def label_counts(labels: Labels) -> dict[int, int]:
    """How many pixels have each of the labels that occur, in ascending order of the labels."""
    length = int(labels.max()) + 1
    counts = sum(
        np.bincount(labels[rows].ravel(), minlength=length) for rows in row_bands(labels.shape)
    )
    return {label: count for label, count in enumerate(np.asarray(counts).tolist()) if count}


def viewable(
    image: Image, labels: Labels
) -> tuple[UInt8[np.ndarray, "shown_height shown_width 3"], ShownLabels]:
    """An image and its labels at a size that can be shown; as they are up to `LARGE_PIXELS` pixels.

    A pixel of the smaller image is the mean of those it stands for, its label that of the nearest.
    """
    height, width = labels.shape
    scale = (LARGE_PIXELS / (height * width)) ** 0.5
    if scale >= 1:
        return image, labels
    size_hw = max(1, round(height * scale)), max(1, round(width * scale))
    small = PilImage.fromarray(image).resize(size_hw[::-1], PilImage.Resampling.BOX)
    return np.asarray(small), resized(labels, size_hw)
