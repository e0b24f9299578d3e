"""Class colours: distinct, and the same for a class index in every picture and report."""

import functools

import numpy as np
from jaxtyping import Float, UInt8

Palette = UInt8[np.ndarray, "category 3"]
"""One RGB colour a class, row = class index."""

_DISTINCT = 512


def palette(count: int) -> Palette:
    """Give each class index a colour that does not depend on how many classes there are.

    The colours are picked one after another, each as far as possible (OKLab, lightness weighted
    up for colour-blind eyes) from those before it; greys are left to IGNORE. They repeat after 512.

    Args:
        count: number of classes.

    Returns:
        RGB, 0 to 255.
    """
    return np.array(_distinct_colours()[np.arange(count) % _DISTINCT])


@functools.cache
def _distinct_colours() -> Palette:
    steps = np.linspace(0, 255, 20).round()
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lab = _oklab(rgb / 255)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 0.4) & (lab[:, 0] < 0.9) & (chroma > 0.06) & (chroma < 0.19)
    rgb, lab = rgb[usable], lab[usable] * np.array([1.3, 1.0, 1.0])
    chosen = [int(np.abs(rgb - np.array([0, 114, 178])).sum(1).argmin())]
    distance = np.full(len(rgb), np.inf)
    while len(chosen) < _DISTINCT:
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.asarray(rgb[chosen], np.uint8)


def _oklab(rgb: Float[np.ndarray, "colour 3"]) -> Float[np.ndarray, "colour 3"]:
    """SRGB (0 to 1) to OKLab; matrices of Björn Ottosson, "A perceptual color space" (2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929],
         [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.7936177850, -0.0040720468],
         [1.9779984951, -2.4285922050, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.8086757660]]
    )  # fmt: skip
    return np.asarray(np.cbrt(linear @ to_lms.T) @ to_lab.T)
