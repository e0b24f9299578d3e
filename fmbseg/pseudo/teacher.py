"""Teachers: an image and class names in, scored pseudo masks out; the student learns from them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fmbseg.models.protocols import ClipModel, SamModel
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.stage1 import ImagePseudoMasks, pseudo_masks_of_image
from fmbseg.store import sha_of
from fmbseg.types import Image


@runtime_checkable
class Teacher(Protocol):
    """What stage 1 asks for the pseudo masks of an image.

    It is built for one list of class names, so that whatever depends on them alone is computed
    once. Masks that a class name asked for are its `masks_11`, masks that were found first and
    named afterwards its `masks_12`; a teacher of one kind leaves the other empty.
    """

    @property
    def class_names(self) -> Sequence[str]:
        """What it looks for; a mask's class index is the place of its name."""
        ...

    @property
    def settings(self) -> str:
        """A hash of its options and whatever else its answers depend on beside its models."""
        ...

    def pseudo_masks(self, image: Image, name: str) -> ImagePseudoMasks:
        """The masks of an RGB image, with their scores; `name` goes into the masks."""
        ...


@dataclass(frozen=True)
class ClipSamTeacher:
    """The paper's teacher: CLIP knows what, SAM knows where.

    Attributes:
        clip: finds the classes of an image and the places to ask SAM about, and names masks.
        sam: gives the masks.
        texts: unit-length text features, one a class.
        class_names: one a class.
        options: the section `pseudo_masks` of params.yaml.

    Paper: section 3.1.
    """

    clip: ClipModel
    sam: SamModel
    texts: Float[Tensor, "category dim"]
    class_names: Sequence[str]
    options: PseudoMasksParams

    @property
    def settings(self) -> str:
        """A hash of the options and the text features."""
        return sha_of([self.options.model_dump(), array_sha(self.texts)])

    def pseudo_masks(self, image: Image, name: str) -> ImagePseudoMasks:
        """See `pseudo_masks_of_image`."""
        return pseudo_masks_of_image(
            image, name, self.clip, self.sam, self.texts, self.class_names, self.options
        )


def array_sha(values: Tensor | Image) -> str:
    """SHA-256 of an array's type, shape and numbers."""
    array = np.ascontiguousarray(values.cpu() if isinstance(values, Tensor) else values)
    header = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
