"""Talk2DINO as a method: each patch of the vision encoder against class names taken to it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.protocols import ClipModel, VisionModel
from fmbseg.types import Image, Images, LabelMap
from studies.talk2dino.alignment import TextToVision


class Talk2DinoSegmentation(TextPrompted):
    """The original's masks; its cleaning of the background and its step over pixels are left out.

    Attributes:
        name: what its results are filed under.
        images_at_once: see `PatchSegmentation`.

    Source: Barsellotti et al., Talking to DINO, arXiv 2411.19331. Our implementation.
    """

    images_at_once = 1

    def __init__(self, clip: ClipModel, vision: VisionModel, head: TextToVision) -> None:
        """Compose the parts; the head was trained for these models."""
        super().__init__("talk2dino", clip)
        self._vision, self._head = vision, head

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
        """Cosine of every patch and every name in the encoder's space, image by image."""
        texts = self._head(self._texts(class_names))
        return [
            torch.einsum("rcd,kd->krc", normalize(self._vision.encode(image), dim=2), texts)
            for image in images
        ]
