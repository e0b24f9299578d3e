"""Stage 1 alone, as a segmenter without training: its pseudo masks are the answer."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.models.protocols import ClipModel, DenseClip, SamModel
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.pseudo.stage1 import Stage1Options, pseudo_masks_of_image
from fmbseg.segmenters.base import TextFeatures, label_pixels
from fmbseg.types import IGNORE, Image, LabelMap, PseudoMask, Stage


class Stage1Segmentation:
    """The masks of stage 1.1, of 1.2, or of both; dense CLIP where there is no mask.

    Attributes:
        name: what its results are filed under.

    Paper: the rows of section 4 without stage 2; what to answer under no mask is our choice.
    """

    def __init__(
        self,
        clip: ClipModel,
        sam: SamModel,
        options: Stage1Options,
        stages: Sequence[Stage] = ("1.1", "1.2"),
        name: str = "stage1",
    ) -> None:
        """Compose the parts.

        Raises:
            ValueError: `stages` is empty or names something else.
        """
        if not stages or not set(stages) <= {"1.1", "1.2"}:
            raise ValueError(f'stages: found {list(stages)}; wanted "1.1", "1.2" or both')
        self.name = name
        self._clip, self._sam, self._options = clip, sam, options
        self._stages, self._texts = tuple(stages), TextFeatures(clip)

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Paint the masks; a pixel under none takes the best *present* class of dense CLIP.

        Masks are scores of SAM, not of CLIP: `similarities` is not answered.

        Raises:
            ValueError: more classes than a label map of pseudo masks can hold.
        """
        if len(class_names) > IGNORE:
            raise ValueError(f"class names: found {len(class_names)}; wanted at most {IGNORE}")
        image_hw = (image.shape[0], image.shape[1])
        texts = self._texts(class_names)
        dense = self._clip.encode_dense(image)
        found = pseudo_masks_of_image(
            image, "image", _AlreadyEncoded(self._clip, dense), self._sam, texts, class_names,
            self._options,
        )  # fmt: skip
        masks: list[PseudoMask] = []
        if "1.1" in self._stages:
            masks += found.masks_11
        if "1.2" in self._stages:
            masks += found.masks_12
        labels = label_map_of(masks, image_hw).astype(np.int32)
        present = sorted(found.present)
        grid = torch.einsum("rcd,kd->krc", dense.patches, texts[present])
        fallback = label_pixels(grid, image_hw, [class_names[k] for k in present]).labels
        labels = np.where(labels == IGNORE, np.asarray(present, np.int32)[fallback], labels)
        return LabelMap(labels, tuple(class_names))


class _AlreadyEncoded:
    """The CLIP whose answer for the one image is known: the image is encoded once, not twice."""

    def __init__(self, clip: ClipModel, dense: DenseClip) -> None:
        self.dim = clip.dim
        self._clip, self._dense = clip, dense

    def encode_dense(self, image: Image) -> DenseClip:
        return self._dense

    def encode_text(self, names: Sequence[str]) -> Float[Tensor, "category dim"]:
        return self._clip.encode_text(names)
