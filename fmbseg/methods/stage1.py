"""Stage 1 alone, as a segmenter without training: its pseudo masks are the answer."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int32

from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.device import device_of
from fmbseg.models.protocols import ClipModel, SamModel
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.stage1 import STAGES, pseudo_masks_of_image
from fmbseg.types import IGNORE, Image, LabelMap, Stage


class Stage1Segmentation(TextPrompted):
    """The masks of stage 1.1, of 1.2, or of both; dense CLIP where there is no mask.

    Attributes:
        name: what its results are filed under.
        needs_image_labels: CLIP is not asked which classes an image holds, the caller says so.

    Paper: the rows of section 4 without stage 2, and the semi-supervised variant with image
    labels; what to answer under no mask is our choice.
    """

    def __init__(
        self,
        clip: ClipModel,
        sam: SamModel,
        options: PseudoMasksParams,
        stages: Sequence[Stage] = STAGES,
        name: str = "stage1",
        *,
        needs_image_labels: bool = False,
    ) -> None:
        """Compose the parts.

        Raises:
            ValueError: `stages` is empty or names something else.
        """
        if not stages or not set(stages) <= set(STAGES):
            raise ValueError(f'stages: found {list(stages)}; wanted "1.1", "1.2" or both')
        super().__init__(name, clip)
        self.needs_image_labels, self._stages = needs_image_labels, tuple(stages)
        self._clip, self._sam, self._options = clip, sam, options

    @torch.inference_mode()
    def segment(
        self,
        image: Image,
        class_names: Sequence[str],
        *,
        similarities: bool = False,
        present: Sequence[int] | None = None,
    ) -> LabelMap:
        """Paint the masks; a pixel under none takes the best *present* class of dense CLIP.

        Args:
            image: RGB.
            class_names: plain names.
            similarities: answer scores too. Under a mask they are a full vote: 1 for its class,
                -1 for every other. Under none they are dense CLIP's cosines, and -1 for every
                class that is not present. So the mean over overlapping windows is a vote in
                which a mask counts more than a guess, and a threshold can find background only
                where there is no mask.
            present: indices of the classes in the image, in place of CLIP's presence.

        Raises:
            ValueError: more classes than a label map of pseudo masks can hold, or the method
                needs the image's classes and was not given them.
        """
        if len(class_names) > IGNORE:
            raise ValueError(f"class names: found {len(class_names)}; wanted at most {IGNORE}")
        if self.needs_image_labels and present is None:
            raise ValueError(
                f"{self.name}: found no image labels; wanted the classes that the image holds, "
                "which only labelled data can say; use stage1 on data without labels"
            )
        image_hw = (image.shape[0], image.shape[1])
        texts = self._texts(class_names)
        dense = self._clip.encode_dense(image)
        found = pseudo_masks_of_image(
            image, "image", self._clip, self._sam, texts, class_names, self._options, present,
            self._stages, dense=dense,
        )  # fmt: skip
        masks = found.masks_11 + found.masks_12
        painted = label_map_of(masks, image_hw).astype(np.int32)
        chosen = np.asarray(sorted(found.present), np.int32)
        grid = torch.einsum("rcd,kd->krc", dense.patches, texts[chosen.tolist()])
        grid = grid.to(device_of(self._clip), non_blocking=True)
        names = [class_names[k] for k in chosen]
        fallback = label_pixels(grid, image_hw, names, similarities=similarities)
        labels = np.where(painted == IGNORE, chosen[fallback.labels], painted)
        if fallback.similarities is None:
            return LabelMap(labels, tuple(class_names))
        return LabelMap(
            labels, tuple(class_names), _votes(painted, chosen, fallback.similarities,
                                               len(class_names)),
        )  # fmt: skip


def _votes(
    painted: Int32[np.ndarray, "height width"],
    present: Int32[np.ndarray, " present"],
    cosines: Float32[np.ndarray, "present height width"],
    classes: int,
) -> Float32[np.ndarray, "category height width"]:
    votes = np.full((classes, *painted.shape), -1, np.float32)
    bare = painted == IGNORE
    for index, cosine in zip(present, cosines, strict=True):
        votes[index] = np.where(bare, cosine, np.where(painted == index, 1, -1))
    return votes
