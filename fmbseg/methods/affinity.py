"""What rivals make of the vision encoder's features: which patches of an image are alike."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from fmbseg.models.protocols import VisionModel
from fmbseg.types import Image


def unit_features(
    vision: VisionModel, image: Image, device: torch.device
) -> Float[Tensor, "rows cols dim"]:
    """The encoder's patches, each of length 1, on the device."""
    return normalize(vision.encode(image).to(device, non_blocking=True).float(), dim=2)


def on_grid(
    given: Float[Tensor, "rows cols dim"], grid_hw: tuple[int, int]
) -> Float[Tensor, "new_rows new_cols dim"]:
    """A map of patches interpolated to another grid over the same image."""
    if given.shape[:2] == grid_hw:
        return given
    moved: Tensor = interpolate(given.permute(2, 0, 1)[None], grid_hw, mode="bilinear")
    return moved[0].permute(1, 2, 0)
