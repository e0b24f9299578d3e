"""Labels that follow the image's edges, without a model: pixel-adaptive mask refinement (PAMR)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fmbseg.methods.pixels import best_name, label_pixels
from fmbseg.methods.upsampling import Grid, SimilarityMap, Upsampled
from fmbseg.types import Image, LabelMap

DILATIONS = (0.5, 1.0)
"""How far the neighbours of a pixel lie, in sides of a patch: eight at each distance."""
ROUNDS = 10
"""So often every pixel takes its neighbours' weighted mean."""
CONTRAST = 0.1
"""Differences are measured in this share of the colours' spread around the pixel."""
PATCH_PX = 8
"""Work is done at most at so many pixels a side of a patch; larger images are scaled down."""
_JUST_BELOW = 1e-6


@dataclass(frozen=True)
class Refined:
    """Similarities of which those of the names that win a patch follow the image's edges.

    The other names stay as they were, but win nowhere: refinement moves borders and brings no new
    class. What this costs hangs on the classes that an image holds, not on the names asked for.

    Attributes:
        coarse: all names before.
        winners: indices of the names that win a patch, ascending.
        values: their refined cosines.
    """

    coarse: SimilarityMap
    winners: list[int]
    values: Float[Tensor, "winner height width"]

    @property
    def names(self) -> int:
        """Number of names."""
        return self.coarse.names

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self.values.device

    def rows(self, top: int, bottom: int) -> Float[Tensor, "name rows width"]:
        """See `SimilarityMap`."""
        refined = self.values[:, top:bottom]
        if len(self.winners) == self.names:
            return refined
        found = Upsampled(self.coarse, self.size_hw).rows(top, bottom)
        found = torch.minimum(found, refined.amax(0) - _JUST_BELOW)
        found[self.winners] = refined
        return found

    def labels(self, image_hw: tuple[int, int], class_names: Sequence[str]) -> LabelMap:
        """What `label_pixels` answers, without a look at the names that win nowhere.

        Args:
            image_hw: wanted size, px.
            class_names: of all names.
        """
        names = [class_names[index] for index in self.winners]
        found = label_pixels(Grid(self.values), image_hw, names)
        chosen = np.array(self.winners, found.labels.dtype)[found.labels]
        return LabelMap(chosen, tuple(class_names))


@torch.inference_mode()
def refined(grid: Float[Tensor, "name rows cols"], image: Image) -> Refined:
    """Move the borders between classes to the image's edges.

    The names that win a patch are interpolated to the image's size, at most `PATCH_PX` a patch.
    Then each pixel takes the weighted mean of its neighbours, `ROUNDS` times: 8 of them at each
    distance, weighted by softmax(-mean over channels |difference| / (CONTRAST x standard
    deviation)), the deviation over the pixel and all its neighbours. Means of cosines are cosines
    no larger, so thresholds keep their meaning.

    Args:
        grid: cosine per name and patch.
        image: RGB, 0 to 255, that it was made of.

    Source: Araslanov and Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020,
    section 4.2; as NACLIP uses it. Our implementation.
    """
    size_hw = _working_size((grid.shape[1], grid.shape[2]), (image.shape[0], image.shape[1]))
    coarse = Grid(grid)
    winners: list[int] = best_name(grid)[1].unique().tolist()
    chosen = Upsampled(Grid(grid[winners]), size_hw)
    values = chosen.rows(0, size_hw[0])
    if len(winners) > 1:
        patch_px = max(size_hw[0] / grid.shape[1], size_hw[1] / grid.shape[2])
        pixels = _pixels(image, size_hw, grid.device)
        values = _spread(values, pixels, [max(1, round(share * patch_px)) for share in DILATIONS])
    return Refined(coarse, winners, values)


def _working_size(grid_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[int, int]:
    """The image's size, or a smaller one of the same shape."""
    scale = min(1.0, *(PATCH_PX * n / px for n, px in zip(grid_hw, image_hw, strict=True)))
    return max(1, round(image_hw[0] * scale)), max(1, round(image_hw[1] * scale))


def _pixels(
    image: Image, size_hw: tuple[int, int], device: torch.device
) -> Float[Tensor, "3 new_height new_width"]:
    pixels = torch.from_numpy(image.copy()).to(device, non_blocking=True).permute(2, 0, 1)
    scaled = pixels.float() / 255
    if scaled.shape[1:] == size_hw:
        return scaled
    return interpolate(scaled[None], size_hw, mode="bilinear", antialias=True)[0]


def _spread(
    values: Float[Tensor, "name height width"],
    pixels: Float[Tensor, "3 height width"],
    distances_px: list[int],
) -> Float[Tensor, "name height width"]:
    """Weighted means of the neighbours, again and again; beyond the border its pixels repeat."""
    (height, width), most = values.shape[1:], max(distances_px)
    places = [
        (most + down * distance, most + across * distance)
        for distance in distances_px
        for down, across in product((-1, 0, 1), repeat=2)
        if (down, across) != (0, 0)
    ]

    def around(given: Tensor) -> list[Tensor]:
        wide = pad(given[None], (most, most, most, most), mode="replicate")[0]
        return [wide[:, y : y + height, x : x + width] for y, x in places]

    neighbours = torch.stack(around(pixels))
    spread = torch.cat([neighbours, pixels[None]]).std(0)
    apart = (neighbours - pixels).abs_().div_(CONTRAST * spread + 1e-8).mean(1)
    weights = torch.softmax(-apart, dim=0)
    for _ in range(ROUNDS):
        total = torch.zeros_like(values)
        for weight, shifted in zip(weights, around(values), strict=True):
            total.addcmul_(shifted, weight)
        values = total
    return values
