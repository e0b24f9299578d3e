"""CorrCLIP: CLIP's patches mixed only within regions that SAM and the vision encoder agree on."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.affinity import on_grid, unit_features
from fmbseg.methods.map_correction import corrected, id_map, relabelled
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.clip_branches import nearest
from fmbseg.models.device import device_of
from fmbseg.models.protocols import ClipBranches, ClipModel, GivesBranches, SamModel, VisionModel
from fmbseg.pseudo.automatic import automatic_masks
from fmbseg.pseudo.settings import AutomaticOptions
from fmbseg.types import Image, LabelMap

SHARPNESS = 4.0
"""The original's: the softmax is over this many times the cosine."""
SAME_REGION = 0.2
"""Regions whose mean features are as near as this, in 1 - cosine, are one; the original's."""
REGION_WEIGHT, MIDDLE_WEIGHT = 0.5, 1.0
"""Of the region tokens and of the middle blocks' branch beside the main branch; the original's."""
_ROWS_AT_ONCE = 1024


class CorrClipSegmentation(TextPrompted):
    """Scope (who attends to whom) by SAM's masks, weights by the vision encoder, then correction.

    As in the original the last block's values are mixed without residual and MLP, the values of
    the middle blocks' mean are mixed with the same weights, each region has a class token that
    sees it alone, and at the end every mask takes its pixels' usual class. A CLIP of four blocks,
    as the miniature's, has no middle blocks by the original's rule.

    What differs: the encoder's patch features stand for the sum of its last queries and keys; the
    automatic masks are those of stage 1.2 (SAM, not SAM 2); windows are stitched before patches
    are mixed, so that regions are merged over the whole image.

    Attributes:
        name: what its results are filed under.

    Source: Zhang et al., CorrCLIP, arXiv 2411.10086. Our implementation.
    """

    def __init__(
        self,
        clip: ClipModel,
        vision: VisionModel,
        sam: SamModel,
        automatic: AutomaticOptions,
        name: str = "corrclip",
    ) -> None:
        """Compose the parts.

        Raises:
            ValueError: a CLIP without values of its patches.
        """
        if not isinstance(clip, GivesBranches):
            raise ValueError(
                f"{name}: found a CLIP ({type(clip).__name__}) without values of its blocks, "
                "wanted one of open_clip's own; take maskclip with this one"
            )
        super().__init__(name, clip)
        self._clip, self._vision, self._sam, self._automatic = clip, vision, sam, automatic

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Nearest class name of every patch, interpolated, then corrected; see `Segmentation`."""
        image_hw = (image.shape[0], image.shape[1])
        ids = id_map(automatic_masks(self._sam, image, self._automatic), image_hw)
        patches = self._patches(image, ids)
        grid = torch.einsum("rcd,kd->krc", patches, self._texts(class_names))
        found = label_pixels(grid, image_hw, class_names, similarities=similarities)
        return relabelled(found, corrected(found.labels, ids))

    def _patches(
        self, image: Image, ids: Int32[np.ndarray, "height width"]
    ) -> Float[Tensor, "rows cols dim"]:
        device = device_of(self._clip)
        features = unit_features(self._vision, image, torch.device("cpu"))
        grid = (features.shape[0], features.shape[1])
        regions = merged(nearest(torch.from_numpy(ids).long(), grid), features)
        branches = self._clip.encode_branches(image, regions)
        kinds = (branches.values, branches.middle)
        values = torch.cat([on_grid(one, grid) for one in kinds if one is not None], dim=2)
        placed = [
            one.flatten(0, 1).to(device, non_blocking=True)
            for one in (features, regions[:, :, None], values)
        ]
        mixed = scoped(placed[0], placed[1][:, 0], placed[2]).cpu().unflatten(0, grid)
        main, *middle = mixed.split(branches.values.shape[2], dim=2)
        tokens = _nearest_tokens(branches.regions, grid)
        return self._clip.project_branches(
            ClipBranches(main, tokens, middle[0] if middle else None), REGION_WEIGHT, MIDDLE_WEIGHT
        )


def merged(
    ids: Int64[Tensor, "rows cols"], features: Float[Tensor, "rows cols dim"]
) -> Int64[Tensor, "rows cols"]:
    """Make one region of masks that look alike to the vision encoder.

    Masks whose mean features differ by at most `SAME_REGION` are neighbours; a region is a set of
    masks in which each can be reached from each by neighbours: DBSCAN in which a single mask is
    enough for a cluster, as in the original.

    Args:
        ids: of the mask that a patch lies in, 0 for none; on the CPU.
        features: of unit length, on the CPU.

    Returns:
        Number of the region from 1, 0 where there is no mask.
    """
    present = [int(number) for number in torch.unique(ids) if number > 0]
    if not present:
        return torch.zeros_like(ids)
    means = normalize(torch.stack([features[ids == number].mean(0) for number in present]), dim=1)
    near = (1 - means @ means.T <= SAME_REGION).numpy()
    _, clusters = connected_components(near, directed=False)
    regions = torch.zeros(int(ids.max()) + 1, dtype=torch.int64)
    regions[present] = torch.from_numpy(clusters).long() + 1
    return regions[ids]


def scoped(
    features: Float[Tensor, "patch dim"],
    regions: Int64[Tensor, " patch"],
    values: Float[Tensor, "patch width"],
) -> Float[Tensor, "patch width"]:
    """Means of the values, weighed by softmax(SHARPNESS cosine) over those within a patch's scope.

    Two patches of one region are in each other's scope. So are two patches of which at least one
    lies in no region, where their cosine is above the mean of all pairs. Every patch is in its
    own.

    Args:
        features: of unit length.
        regions: 0 for none.
        values: what is mixed.
    """
    middle = features.mean(0)
    mean = middle @ middle  # over all pairs
    free = regions == 0
    mixed = torch.empty_like(values)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        cosines = features[rows] @ features.T
        loose = (free[rows, None] | free) & (cosines > mean)
        scope = loose | ((regions[rows, None] == regions) & ~free)
        scope.diagonal(start).fill_(True)
        scores = (SHARPNESS * cosines).masked_fill_(~scope, float("-inf"))
        mixed[rows] = scores.softmax(1) @ values
    return mixed


def _nearest_tokens(
    given: Float[Tensor, "rows cols inner"], grid_hw: tuple[int, int]
) -> Float[Tensor, "new_rows new_cols inner"]:
    """Region tokens on another grid; means of two regions' tokens would belong to neither."""
    places = torch.arange(given.shape[0] * given.shape[1]).view(given.shape[:2])
    return given.flatten(0, 1)[nearest(places, grid_hw)]
