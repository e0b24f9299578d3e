"""Trident: CLIP's patches, mixed by the vision encoder, then by SAM's encoder, then redrawn."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.affinity import on_grid, unit_features
from fmbseg.methods.map_correction import relabelled
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.proxyclip import attend
from fmbseg.methods.sam_refinement import PUBLISHED, Refinement, refined
from fmbseg.methods.text_features import TextPrompted
from fmbseg.methods.upsampling import Grid
from fmbseg.models.device import device_of
from fmbseg.models.protocols import (
    ClipModel,
    GivesValues,
    SamAttention,
    SamModel,
    ShowsAttention,
    TakesRegions,
    VisionModel,
)
from fmbseg.types import Image, LabelMap

MOST, SHARE = 0.9, 1.2
"""The original's: a pair counts where its cosine is above SHARE times their mean, or above MOST."""
_ROWS_AT_ONCE = 256


class TridentSegmentation(TextPrompted):
    """CLIP's values over the whole image before anything is classified, and SAM twice.

    The values of CLIP's crops are stitched and mixed as `proxyclip` does, brought to the grid of
    SAM's encoder, mixed again by the attention of its last block, projected and compared with the
    class names. SAM's decoder then draws the regions anew (`fmbseg.methods.sam_refinement`).

    What differs: the original mixes by the vision encoder within windows and stitches afterwards;
    here windows are stitched first. Its thresholds of probability vary with the data set (0.05 to
    0.2); here it is 0.2.

    Attributes:
        name: what its results are filed under.

    Source: Shi et al., Trident, arXiv 2411.09219. Our implementation.
    """

    def __init__(
        self,
        clip: ClipModel,
        vision: VisionModel,
        sam: SamModel,
        name: str = "trident",
        *,
        refinement: Refinement | None = PUBLISHED,
    ) -> None:
        """Compose the parts; without `refinement` the labels stay as they are interpolated.

        Raises:
            ValueError: a CLIP without values of its patches, or a SAM without attention.
        """
        if not isinstance(clip, GivesValues):
            raise ValueError(
                f"{name}: found a CLIP ({type(clip).__name__}) without values of its patches, "
                "wanted one of open_clip's own; take maskclip with this one"
            )
        if not isinstance(sam, ShowsAttention) or not isinstance(sam, TakesRegions):
            raise ValueError(
                f"{name}: found a SAM ({type(sam).__name__}) that shows no attention and takes no "
                "masks, wanted one of segment_anything"
            )
        super().__init__(name, clip)
        self._clip, self._vision, self._sam, self._refinement = clip, vision, sam, refinement

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Nearest class name of every patch, interpolated, then drawn anew; see `Segmentation`."""
        embedding, attention = self._sam.embed_attending(image)
        patches = self._patches(image, attention)
        texts = self._texts(class_names)
        grid = torch.einsum("rcd,kd->krc", patches, texts).to(device_of(self._sam))
        found = label_pixels(grid, image.shape[:2], class_names, similarities=similarities)
        if self._refinement is None:
            return found
        return relabelled(
            found, refined(self._sam, embedding, Grid(grid), found.labels, self._refinement)
        )

    def _patches(self, image: Image, attention: SamAttention) -> Float[Tensor, "rows cols dim"]:
        device = device_of(self._clip)
        features = unit_features(self._vision, image, device)
        grid = (features.shape[0], features.shape[1])
        values = on_grid(self._clip.encode_values(image).to(device, non_blocking=True), grid)
        mixed = attend(features.flatten(0, 1), values.flatten(0, 1)).unflatten(0, grid)
        on_sams = on_grid(mixed, attention.grid_hw).flatten(0, 1)
        seen = aggregated(attention, on_sams.to(attention.values.device, non_blocking=True))
        return self._clip.project_values(seen.unflatten(0, attention.grid_hw))


def aggregated(
    attention: SamAttention, given: Float[Tensor, "patch width"]
) -> Float[Tensor, "patch width"]:
    """Means over the patches that SAM's encoder attends to and finds alike.

    The weights are its attention, 0 where the cosine of the two patches' values is not above
    min(MOST, SHARE times the mean over all pairs), scaled to a sum of 1. A patch always counts for
    itself.

    Args:
        attention: of SAM's last block.
        given: what is mixed, on the same device.
    """
    unit = normalize(attention.values, dim=1)
    middle = unit.mean(0)
    limit = (SHARE * (middle @ middle)).clamp(max=MOST)
    mixed = torch.empty_like(given)
    for start in range(0, len(given), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        alike = unit[rows] @ unit.T > limit
        alike.diagonal(start).fill_(True)
        weights = torch.where(alike, attention.weights(rows), 0)
        mixed[rows] = (weights / weights.sum(1, keepdim=True)) @ given
    return mixed
