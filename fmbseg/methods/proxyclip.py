"""ProxyCLIP: CLIP's values, mixed by the attention that the vision encoder's patches ask for."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.methods.affinity import on_grid, unit_features
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.device import device_of
from fmbseg.models.protocols import ClipModel, GivesValues, VisionModel
from fmbseg.types import Image, Images, LabelMap

BETA, GAMMA = 1.2, 3.0
"""The original's: a pair attends where its cosine is above BETA times their mean."""
_ROWS_AT_ONCE = 1024


class ProxyClipSegmentation(TextPrompted):
    """CLIP's last block with the vision encoder's cosines in place of queries and keys.

    As in the original the block's residual and MLP are left out. The original looks through
    windows, each with an attention of its own; here CLIP's values are stitched over its crops
    first and every patch of the image may attend to every other.

    Attributes:
        name: what its results are filed under.
        images_at_once: see `PatchSegmentation`.

    Source: Lan et al., ProxyCLIP, arXiv 2408.04883. Our implementation.
    """

    images_at_once = 1

    def __init__(self, clip: ClipModel, vision: VisionModel, name: str = "proxyclip") -> None:
        """Compose the parts.

        Raises:
            ValueError: a CLIP without values of its patches.
        """
        if not isinstance(clip, GivesValues):
            raise ValueError(
                f"{name}: found a CLIP ({type(clip).__name__}) without values of its patches, "
                "wanted one of open_clip's own; take maskclip with this one"
            )
        super().__init__(name, clip)
        self._clip, self._vision = clip, vision

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Nearest class name of every patch, interpolated to pixels; see `Segmentation`."""
        (grid,) = self.similarity_grids([image], class_names)
        return label_pixels(grid, image.shape[:2], class_names, similarities=similarities)

    @torch.inference_mode()
    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> list[Float[Tensor, "category _rows _cols"]]:
        """Cosine of every patch of the encoder's grid and every name, image by image."""
        texts = self._texts(class_names)
        return [torch.einsum("rcd,kd->krc", self._patches(image), texts) for image in images]

    def _patches(self, image: Image) -> Float[Tensor, "rows cols dim"]:
        device = device_of(self._clip)
        features = unit_features(self._vision, image, device)
        grid = (features.shape[0], features.shape[1])
        values = on_grid(self._clip.encode_values(image).to(device), grid)
        mixed = attend(features.flatten(0, 1), values.flatten(0, 1))
        return self._clip.project_values(mixed.unflatten(0, grid))


def attend(
    features: Float[Tensor, "patch dim"], values: Float[Tensor, "patch width"]
) -> Float[Tensor, "patch width"]:
    """Means of the values, weighed by softmax(GAMMA (cosine - BETA mean cosine)) where positive.

    A patch always attends to itself: where all are so alike that no pair is above the limit, the
    original has nothing to divide by.

    Args:
        features: of unit length.
        values: what is mixed.
    """
    middle = features.mean(0)
    limit = BETA * (middle @ middle)  # the mean over all pairs
    mixed = torch.empty_like(values)
    for start in range(0, len(features), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scores = GAMMA * (features[rows] @ features.T - limit)
        alike = scores >= 0
        alike.diagonal(start).fill_(True)
        mixed[rows] = scores.masked_fill_(~alike, float("-inf")).softmax(1) @ values
    return mixed
