"""CLIP alone: its dense patches against the class names, no training and no masks."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.device import device_of
from fmbseg.models.encoder import encoder_of
from fmbseg.models.protocols import ClipModel
from fmbseg.types import Image, Images, LabelMap


class DenseClipSegmentation(TextPrompted):
    """Dense CLIP; the CLIP's projection makes it MaskCLIP, SCLIP or NACLIP.

    Attributes:
        name: what its results are filed under; name it after the projection.

    Paper: a baseline of section 4.
    """

    def __init__(self, clip: ClipModel, name: str = "maskclip") -> None:
        """Take a CLIP built with the projection that `name` promises."""
        super().__init__(name, clip)
        self._clip = clip

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Nearest class name of every patch, interpolated to pixels; see `Segmentation`."""
        (grid,) = self.similarity_grids([image], class_names)
        return label_pixels(grid, image.shape[:2], class_names, similarities=similarities)

    @property
    def images_at_once(self) -> int:
        """As many as the encoder is glad of; see `PatchSegmentation`."""
        return encoder_of(self._clip, self._clip.encode_dense).images_at_once

    @torch.inference_mode()
    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> list[Float[Tensor, "category _rows _cols"]]:
        """Cosine of every patch and every name, image by image, on CLIP's device."""
        device = device_of(self._clip)
        texts = self._texts(class_names).to(device, non_blocking=True)
        encoder = encoder_of(self._clip, self._clip.encode_dense)
        return [
            torch.einsum("rcd,kd->krc", dense.patches.to(device, non_blocking=True), texts)
            for _, dense in encoder.over(images, lambda image: image)
        ]
