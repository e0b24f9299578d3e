"""CLIP-DIY: crops of several sizes classified whole, weighed by how much of an object is there."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.methods.upsampling import resize_similarities
from fmbseg.models.device import device_of
from fmbseg.models.encoder import encoder_of
from fmbseg.models.protocols import ClipModel, DenseClip, SamModel
from fmbseg.pseudo.automatic import automatic_masks
from fmbseg.pseudo.settings import AutomaticOptions
from fmbseg.store import decode_rle
from fmbseg.types import Image, LabelMap, SamMask

CROP_FRACTIONS = (1.0, 0.5, 0.25)
"""One scale each: side of its square crops over the image's short side; the original's."""
STRIDE_FRACTION = 0.5
"""Greatest stride of the crops over their side; the original's."""
LEAST_OBJECTNESS = 0.05
"""Objectness stays this far from 0 and from 1, so that SAM alone rules no class out; ours."""


class ClipDiySegmentation(TextPrompted):
    """Class tokens of a grid of crops at several scales, and objectness; no patch features.

    Every crop's class token is compared with the class names; the grid of cosines is interpolated
    to pixels and averaged over the scales. The mean is multiplied by the pixel's objectness, that
    of a background class by one minus it.

    The original takes objectness from a foreground/background segmenter trained for it (FOUND).
    Ours takes it from SAM's automatic masks instead: see `objectness`.

    The CLIP should see a crop as one picture: build it with `short_side_px=None` or the size of
    one crop. Where it cuts a crop further, the mean of the class tokens stands for the crop.

    Attributes:
        name: what its results are filed under.

    Source: Wysoczanska et al., CLIP-DIY, WACV 2024. Paper: a baseline of section 4.
    """

    def __init__(
        self, clip: ClipModel, sam: SamModel, automatic: AutomaticOptions, name: str = "clip_diy",
        *, background_names: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Compose the parts.

        Args:
            clip: classifies the crops.
            sam: gives the masks that objectness is made of.
            automatic: its mask generation.
            name: what the results are filed under.
            background_names: class names that mean no object; the classes asked for that are
                among them are weighed by what is left of objectness.
        """
        super().__init__(name, clip)
        self._clip, self._sam, self._automatic = clip, sam, automatic
        self._background_names = background_names

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Best weighed cosine of every pixel; see `Segmentation`.

        SAM is not asked when it cannot change a label: without a background class among the
        names, objectness multiplies every class of a pixel by the same positive number, and only
        the similarities show it.
        """
        image_hw = (image.shape[0], image.shape[1])
        device = device_of(self._clip)
        grids = [
            grid.to(device, non_blocking=True)
            for grid in self._grids(image, self._texts(class_names))
        ]
        scores = torch.zeros(len(class_names), *image_hw, device=device)
        for grid in grids:
            scores += resize_similarities(grid, image_hw) / len(grids)
        background = torch.tensor([name in self._background_names for name in class_names])
        if similarities or bool(background.any()):
            masks = automatic_masks(self._sam, image, self._automatic)
            weight = torch.from_numpy(objectness(masks, image_hw))
            weight = weight.clamp(LEAST_OBJECTNESS, 1 - LEAST_OBJECTNESS)
            weights = torch.where(background[:, None, None], 1 - weight, weight)
            scores *= weights.to(device, non_blocking=True)
        return label_pixels(scores, image_hw, class_names, similarities=similarities)

    def _grids(
        self, image: Image, texts: Float[Tensor, "category dim"]
    ) -> list[Float[Tensor, "category rows cols"]]:
        """Cosines of the crops, one grid a scale."""
        height, width = image.shape[:2]
        encoder = encoder_of(self._clip, self._clip.encode_dense)
        grids = []
        for fraction in CROP_FRACTIONS:
            side = max(1, round(fraction * min(height, width)))
            stride = STRIDE_FRACTION * side
            tops, lefts = crop_starts(height, side, stride), crop_starts(width, side, stride)
            crops = [image[y : y + side, x : x + side] for y in tops for x in lefts]
            tokens = [_class_token(dense) for _, dense in encoder.over(crops, np.ascontiguousarray)]
            grid = torch.stack(tokens).unflatten(0, (len(tops), len(lefts)))
            grids.append(torch.einsum("rcd,kd->krc", grid, texts))
        return grids


def _class_token(dense: DenseClip) -> Float[Tensor, " dim"]:
    return dense.cls[0] if len(dense.cls) == 1 else normalize(dense.cls.mean(dim=0), dim=0)


def crop_starts(length_px: int, side_px: int, stride_px: float) -> list[int]:
    """Where crops start along one axis, evenly spread from edge to edge.

    Args:
        length_px: of the axis.
        side_px: of a crop, at most `length_px`.
        stride_px: crops start at most this far apart, but for rounding to whole pixels.
    """
    gap = length_px - side_px
    steps = math.ceil(gap / stride_px - 1e-9)
    return [round(gap * step / steps) for step in range(steps + 1)] if steps else [0]


def objectness(
    masks: Sequence[SamMask], image_hw: tuple[int, int]
) -> Float32[np.ndarray, "height width"]:
    """How much a pixel looks like part of an object to SAM, 0 to 1.

    A picture's frame cuts through its background and seldom through its objects. So a mask's
    objectness is its predicted IoU times exp(-c^2 / 2), c being the length it shares with the
    image's four borders over the root of its area. A pixel has that of its best mask, and 0 under
    none.

    Args:
        masks: of one image, none empty.
        image_hw: its size, px.

    Source: c and its falling off are the boundary connectivity of Zhu et al., Saliency
    optimization from robust background detection, CVPR 2014; to take it of SAM's masks is ours.
    """
    best = np.zeros(image_hw, np.float32)
    for mask in masks:
        inside = decode_rle(mask.rle)
        frame = [inside[0], inside[-1], inside[:, 0], inside[:, -1]]
        shared_px = sum(int(side.sum()) for side in frame)
        score = mask.predicted_iou * math.exp(-(shared_px**2) / (2 * mask.area_px))
        best[inside] = np.maximum(best[inside], np.float32(min(max(score, 0.0), 1.0)))
    return best
