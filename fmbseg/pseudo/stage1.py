"""Stage 1 of one image: both kinds of pseudo masks from one CLIP and one SAM encoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.models.protocols import ClipModel, DenseClip, SamEmbedding, SamModel
from fmbseg.pseudo.automatic import masks_of_embedded
from fmbseg.pseudo.labelling import label_masks
from fmbseg.pseudo.looks import feature_of
from fmbseg.pseudo.presence import count_votes, given_classes, present_classes
from fmbseg.pseudo.prompts import prompted_masks
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.types import Image, PseudoMask, Stage

STAGES: tuple[Stage, ...] = ("1.1", "1.2")


@dataclass(frozen=True)
class ImagePseudoMasks:
    """Stage 1's answer for one image.

    Attributes:
        masks_11: prompted by CLIP, at most one a present class.
        masks_12: automatic, labelled by CLIP among the present classes.
        present: class indices, ascending, never none.
        votes: crops' votes per class, also where the classes were given.
        look: feature of the whole image, see `fmbseg.pseudo.looks`; empty where there is none.
    """

    masks_11: list[PseudoMask]
    masks_12: list[PseudoMask]
    present: list[int]
    votes: list[int]
    look: tuple[float, ...] = ()


@torch.inference_mode()
def pseudo_masks_of_image(
    image: Image,
    name: str,
    clip: ClipModel,
    sam: SamModel,
    texts: Float[Tensor, "category dim"],
    class_names: Sequence[str],
    options: PseudoMasksParams,
    present: Sequence[int] | None = None,
    stages: Sequence[Stage] = STAGES,
    *,
    dense: DenseClip | None = None,
) -> ImagePseudoMasks:
    """Run stage 1 on one image; each encoder runs once.

    Args:
        image: RGB.
        name: of the image; goes into the masks.
        clip: knows what.
        sam: knows where.
        texts: unit-length text features, one a class.
        class_names: one a class.
        options: the section `pseudo_masks` of params.yaml.
        present: indices of the classes known to be in the image; None lets CLIP's crops vote.
        stages: whose masks are wanted; the other's are not computed.
        dense: CLIP's encoding of the image, where the caller has it.

    Returns:
        The masks, the present classes and the votes.

    Raises:
        ValueError: as many texts as class names were wanted, or `present` holds no class or one
            that is not among them.

    Paper: section 3.1; classes given are its semi-supervised variant.
    """
    if len(texts) != len(class_names):
        raise ValueError(f"found {len(texts)} text features for {len(class_names)} class names")
    if dense is None:
        dense = clip.encode_dense(image)
    embedding = sam.embed(image)
    return masks_of_encoded(
        dense, embedding, name, sam, texts, class_names, options, present, stages
    )


@torch.inference_mode()
def masks_of_encoded(
    dense: DenseClip,
    embedding: SamEmbedding,
    name: str,
    sam: SamModel,
    texts: Float[Tensor, "category dim"],
    class_names: Sequence[str],
    options: PseudoMasksParams,
    present: Sequence[int] | None = None,
    stages: Sequence[Stage] = STAGES,
) -> ImagePseudoMasks:
    """Run stage 1 on an image that CLIP and SAM have encoded; see `pseudo_masks_of_image`."""
    texts = texts.cpu().float()
    votes = count_votes(dense.cls, texts)
    if present is None:
        found = present_classes(votes, options.presence_votes)
    else:
        found = given_classes(present, len(class_names))
    masks_11: list[PseudoMask] = []
    masks_12: list[PseudoMask] = []
    if "1.1" in stages:
        masks_11 = prompted_masks(
            sam, embedding, dense, texts, found, class_names=class_names, image_name=name,
            count=options.prompt_points, together=options.points_together,
            stability_offset=options.stability_offset,
        )  # fmt: skip
    if "1.2" in stages:
        automatic = masks_of_embedded(sam, embedding, options)
        masks_12 = label_masks(automatic, dense, texts, found, class_names, name)
    return ImagePseudoMasks(masks_11, masks_12, found, votes.tolist(), feature_of(dense.cls))
