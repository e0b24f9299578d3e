"""FMbSeg itself: frozen patch features, mapped into CLIP's text space by the trained head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.encoder import encoder_of
from fmbseg.models.protocols import ClipModel, VisionModel
from fmbseg.types import Image, Images, LabelMap
from fmbseg.vocabulary import Vocabulary


class AlignedSegmentation(TextPrompted):
    """Vision encoder, alignment head, CLIP's text encoder; SAM and CLIP's images take no part.

    Attributes:
        name: what its results are filed under.

    Paper: section 3.3.
    """

    def __init__(
        self, vision: VisionModel, head: AlignmentHead, clip: ClipModel, name: str = "fmbseg"
    ) -> None:
        """Compose the parts.

        Raises:
            ValueError: the head was trained for models of other widths.
        """
        if (head.vision_dim, head.text_dim) != (vision.dim, clip.dim):
            raise ValueError(
                f"alignment head: maps {head.vision_dim} to {head.text_dim}, the models have "
                f"{vision.dim} (vision) and {clip.dim} (CLIP); use the models it was trained with"
            )
        super().__init__(name, clip)
        self._vision, self._head = vision, head.eval()

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Nearest class name of every aligned patch, interpolated to pixels; see `Segmentation`."""
        (grid,) = self.similarity_grids([image], class_names)
        return label_pixels(grid, image.shape[:2], class_names, similarities=similarities)

    @property
    def images_at_once(self) -> int:
        """As many as the encoder is glad of; see `PatchSegmentation`."""
        return encoder_of(self._vision, self._vision.encode).images_at_once

    @torch.inference_mode()
    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> list[Float[Tensor, "category _rows _cols"]]:
        """Cosine of every aligned patch and every name, image by image."""
        texts, encoder = self._texts(class_names), encoder_of(self._vision, self._vision.encode)
        encoded = encoder.over(images, lambda image: image)
        return [self._similarities(features, texts) for _, features in encoded]

    def encode_names(self, classes: Sequence[str] | Vocabulary) -> Float[Tensor, "category dim"]:
        """Text features of class names, or of a vocabulary as training has them; see `encode`."""
        return self._texts(classes)

    @torch.inference_mode()
    def similarity_grid(
        self, image: Image, texts: Float[Tensor, "category dim"]
    ) -> Float[Tensor, "category rows cols"]:
        """Cosine of every aligned patch and every text, on the head's device."""
        return self._similarities(self._vision.encode(image), texts)

    def _similarities(
        self, features: Float[Tensor, "rows cols dim"], texts: Float[Tensor, "category text"]
    ) -> Float[Tensor, "category rows cols"]:
        aligned = self.align(features)
        return torch.einsum("rcd,kd->krc", aligned, texts.to(aligned.device, non_blocking=True))

    @torch.inference_mode()
    def align(self, features: Float[Tensor, "rows cols dim"]) -> Float[Tensor, "rows cols text"]:
        """Patch features of one image in the text space, unit length, on the head's device."""
        device = next(self._head.parameters()).device
        patches = features.float().flatten(0, 1)[None].to(device, non_blocking=True)
        rows, cols, _ = features.shape
        aligned: Tensor = self._head(patches)[0].unflatten(0, (rows, cols))
        return aligned
