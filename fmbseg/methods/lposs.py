"""LPOSS: dense CLIP's similarities spread to patches that the vision encoder finds alike."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg
from torch import Tensor

from fmbseg.methods.affinity import on_grid, unit_features
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.protocols import ClipModel, VisionModel
from fmbseg.types import Image, Images, LabelMap

NEIGHBOURS, POWER, SPREAD, NEARNESS = 400, 3.0, 0.95, 0.01
"""The original's: neighbours of a patch, exponent of their cosines, share that is spread, and how
fast a neighbour's weight falls with its distance, 1/px."""
PATCH_PX = 16
"""Of the original's encoder: distances are counted in such patches, whatever ours are."""
STEPS = 10
"""Of conjugate gradients, at most, for each class."""


class LpossSegmentation(TextPrompted):
    """Label propagation over the patches of an image; the original's step over pixels is left out.

    All pairs of patches are compared at once: 4 bytes each, 13 MB for 37 x 49 patches.

    Attributes:
        name: what its results are filed under.
        images_at_once: see `PatchSegmentation`.

    Source: Stojnic et al., LPOSS, CVPR 2025. Our implementation.
    """

    images_at_once = 1

    def __init__(self, clip: ClipModel, vision: VisionModel, name: str = "lposs") -> None:
        """Compose the parts; the CLIP's own projection gives the first similarities."""
        super().__init__(name, clip)
        self._clip, self._vision = clip, vision

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Class of the highest spread similarity of every pixel; see `Segmentation`.

        Spread similarities are sums over neighbours, no cosines: they put classes in order and
        mean nothing to a threshold.
        """
        (grid,) = self.similarity_grids([image], class_names)
        return label_pixels(grid, image.shape[:2], class_names, similarities=similarities)

    @torch.inference_mode()
    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> list[Float[Tensor, "category _rows _cols"]]:
        """Spread similarity of every patch of the encoder's grid and every name, by image."""
        texts = self._texts(class_names)
        return [self._grid(image, texts) for image in images]

    def _grid(
        self, image: Image, texts: Float[Tensor, "category dim"]
    ) -> Float[Tensor, "category rows cols"]:
        features = unit_features(self._vision, image, torch.device("cpu"))
        grid = (features.shape[0], features.shape[1])
        cosines = on_grid(self._clip.encode_dense(image).patches @ texts.T, grid)
        found = spread(affinity(features), cosines.flatten(0, 1).numpy())
        return torch.from_numpy(found.T.reshape(len(texts), *grid))


def affinity(features: Float[Tensor, "rows cols dim"]) -> csr_array:
    """Which patches are alike, [patch patch]: D^-1/2 W D^-1/2, symmetric, its diagonal 0.

    W holds max(0, cosine)^POWER exp(-NEARNESS distance) of each patch's NEIGHBOURS nearest by
    cosine, added to its transpose; D are W's sums of rows.

    Args:
        features: of unit length.
    """
    rows, cols, _ = features.shape
    flat, count = features.flatten(0, 1), rows * cols
    near = min(NEIGHBOURS, count - 1)
    if near == 0:
        return csr_array((count, count), dtype=np.float32)
    cosines = flat @ flat.T
    cosines.fill_diagonal_(float("-inf"))
    best = cosines.topk(near, dim=1)
    to = best.indices.numpy().reshape(-1)
    of = np.repeat(np.arange(count), near)
    apart = PATCH_PX * np.hypot(of // cols - to // cols, of % cols - to % cols)
    weight = best.values.clamp(min=0).numpy().reshape(-1) ** POWER * np.exp(-NEARNESS * apart)
    one_way = coo_array((weight.astype(np.float32), (of, to)), shape=(count, count)).tocsr()
    both = one_way + one_way.T
    sums = np.asarray(both.sum(axis=1)).reshape(-1)
    scale = diags_array(np.where(sums > 0, 1 / np.sqrt(np.maximum(sums, 1e-12)), 0.0))
    return csr_array(scale @ both @ scale)


def spread(
    alike: csr_array, first: Float32[np.ndarray, "patch category"]
) -> Float32[np.ndarray, "patch category"]:
    """(1 - SPREAD) (1 - SPREAD S)^-1 Y, column by column, by conjugate gradients.

    Args:
        alike: S; see `affinity`.
        first: Y, the similarities before.
    """
    system = eye_array(alike.shape[0], format="csr") - SPREAD * alike
    found = [cg(system, column, x0=column, rtol=1e-6, maxiter=STEPS)[0] for column in first.T]
    return ((1 - SPREAD) * np.stack(found, axis=1)).astype(np.float32)
