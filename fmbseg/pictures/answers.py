"""What is said of one image as pictures: overlay with legend, numbers in 16 bits; as bytes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Integer
from PIL import Image as PilImage
from PIL.PngImagePlugin import PngInfo

from fmbseg.image_size import row_bands
from fmbseg.pictures.colours import Palette
from fmbseg.pictures.drawing import overlay, with_legend
from fmbseg.pictures.large import viewable
from fmbseg.store import encode_image
from fmbseg.types import IGNORE, Image

NONE = "none"
"""How a pixel of no class is called."""
CONFIDENCE_SCALE = "confidence = value / 65535"
"""What the levels of a confidence PNG mean."""
SIMILARITY_SCALE = "cosine of the best class = value / 65535 * 2 - 1"
"""What the levels of a similarity PNG mean."""


def overlay_png(
    image: Image, labels: Integer[np.ndarray, "height width"], names: Sequence[str],
    colours: Palette, present: Sequence[int],
) -> bytes:  # fmt: skip
    """A PNG of the image under its classes' colours, with a legend below.

    Args:
        image: of the labels' size; one of more than `LARGE_PIXELS` pixels is shown smaller.
        labels: class index per pixel; IGNORE stays uncoloured, its swatch is white.
        names: of all classes.
        colours: one a class.
        present: the labels that occur, for the legend.
    """
    shown = painted(*viewable(image, labels), colours)
    swatches = np.concatenate([colours, np.full((1, 3), 255, np.uint8)])
    legend = [len(names) if label == IGNORE else label for label in present]
    return encode_image(PilImage.fromarray(with_legend(shown, (*names, NONE), swatches, legend)))


def painted(image: Image, labels: Integer[np.ndarray, "height width"], colours: Palette) -> Image:
    """An image under its classes' colours; IGNORE stays uncoloured.

    Args:
        image: of the labels' size.
        labels: class index per pixel, or IGNORE.
        colours: one a class.
    """
    shown = overlay(image, labels, colours)
    nothing = labels == IGNORE
    shown[nothing] = image[nothing]
    return shown


def fractions_png(
    values: Float32[np.ndarray, "height width"], scale: str, *, least: float = 0
) -> bytes:
    """Numbers as a grey PNG of 16 bits: black is `least`, white is 1.

    Args:
        values: from `least` to 1.
        scale: what the levels mean, a text in the file.
        least: what stands for black.
    """
    told = PngInfo()
    told.add_text("scale", scale)
    levels = np.empty(values.shape, np.uint16)
    for rows in row_bands(values.shape):
        fractions = (values[rows] - least) / (1 - least)
        levels[rows] = np.rint(fractions.clip(0, 1) * 65535)
    return encode_image(PilImage.fromarray(levels), pnginfo=told)
