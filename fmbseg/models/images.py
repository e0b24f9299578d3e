"""The raw image as the models' preprocessing meets it."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from torch import Tensor

from fmbseg.image_size import MAX_ASPECT
from fmbseg.types import Image

ShortSide = int | Literal["auto"] | None
"""Size that an image's short side is brought to, px; None keeps it, "auto" asks the model."""


def require_rgb(image: Image) -> None:
    """Refuse what is no usable RGB image.

    Raises:
        ValueError: not uint8, not height × width × 3, empty, or longer than `MAX_ASPECT` times
            its width.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"image: found {image.dtype} of shape {image.shape}, wanted uint8 [height width 3]"
        )
    height, width = image.shape[:2]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"image: {height} x {width} px is too elongated, wanted at most 1 to {MAX_ASPECT:g}; "
            "cut it into pieces"
        )


def patch_aligned_hw(
    image_hw: tuple[int, int],
    patch_hw: tuple[int, int],
    short_side_px: int | None,
    least_hw: tuple[int, int],
) -> tuple[int, int]:
    """Choose the size in px at which an image is whole patches in both directions.

    Args:
        image_hw: its size, px.
        patch_hw: size of a patch, px.
        short_side_px: wanted shortest side; None keeps the image's own scale.
        least_hw: smallest size allowed, px; a smaller image is enlarged until both sides fit.
    """
    height, width = image_hw
    scale = 1.0 if short_side_px is None else short_side_px / min(height, width)
    scale = max(scale, least_hw[0] / height, least_hw[1] / width)
    rows = max(round(height * scale / patch_hw[0]), -(-least_hw[0] // patch_hw[0]))
    cols = max(round(width * scale / patch_hw[1]), -(-least_hw[1] // patch_hw[1]))
    return rows * patch_hw[0], cols * patch_hw[1]


def crop_starts_px(length_px: int, crop_px: int, stride_px: int) -> list[int]:
    """Left edges of crops that cover a length; the last one is shifted back to the border."""
    last = max(0, length_px - crop_px)
    return [*range(0, last, stride_px), last]


def resized_image(
    image: Image, size_hw: tuple[int, int], interpolation: str
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Resize as the upstream transforms do: by PIL, antialiased.

    Args:
        image: RGB, 0 to 255.
        size_hw: wanted size, px; the image itself is answered when it has it.
        interpolation: "bicubic" or "bilinear".
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    if image.shape[:2] == size_hw:
        return image
    resized = resize(PilImage.fromarray(image), list(size_hw), InterpolationMode(interpolation))
    return np.asarray(resized)


def normalised_pixels(
    image: Image,
    size_hw: tuple[int, int],
    interpolation: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[Tensor, "3 new_height new_width"]:
    """Resize as the upstream transforms do (PIL, antialiased), scale to 0–1, normalise.

    Args:
        image: RGB, 0 to 255.
        size_hw: wanted size, px; nothing is resampled when the image has it.
        interpolation: "bicubic" or "bilinear".
        mean: per channel, of values in 0–1.
        std: per channel, of values in 0–1.
    """
    image = resized_image(image, size_hw, interpolation)
    pixels = torch.from_numpy(np.ascontiguousarray(image).copy()).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
