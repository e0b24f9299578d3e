"""Teachers: an image and class names in, scored pseudo masks out; the student learns from them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fmbseg.models.encoder import Encoder, encoder_of
from fmbseg.models.protocols import ClipModel, DenseClip, SamEmbedding, SamModel
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.stage1 import ImagePseudoMasks, masks_of_encoded
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

    @property
    def images_at_once(self) -> int:
        """So many images are worth handing over together; 1 where it gains nothing."""
        ...

    def prepare(self, image: Image) -> Any:
        """What `pseudo_masks` takes for an RGB image; background threads ask for it."""
        ...

    def pseudo_masks(
        self, prepared: Sequence[Any], names: Sequence[str]
    ) -> Iterator[ImagePseudoMasks]:
        """The masks of some images, with their scores; an image's name goes into its masks."""
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

    @cached_property
    def _encoders(self) -> tuple[Encoder[DenseClip], Encoder[SamEmbedding]]:
        return (
            encoder_of(self.clip, self.clip.encode_dense), encoder_of(self.sam, self.sam.embed)
        )  # fmt: skip

    @property
    def images_at_once(self) -> int:
        """As many as one of the two encoders is glad of."""
        return max(encoder.images_at_once for encoder in self._encoders)

    def prepare(self, image: Image) -> tuple[Any, Any]:
        """The image as CLIP and as SAM want it."""
        clip, sam = self._encoders
        return clip.prepare(image), sam.prepare(image)

    def pseudo_masks(
        self, prepared: Sequence[tuple[Any, Any]], names: Sequence[str]
    ) -> Iterator[ImagePseudoMasks]:
        """See `masks_of_encoded`; the encoders see all images first."""
        clip, sam = self._encoders
        dense = clip.encode([one for one, _ in prepared])
        embedded = sam.encode([one for _, one in prepared])
        for name, seen, embedding in zip(names, dense, embedded, strict=True):
            yield masks_of_encoded(
                seen, embedding, name, self.sam, self.texts, self.class_names, self.options
            )


def array_sha(values: Tensor | Image) -> str:
    """SHA-256 of an array's type, shape and numbers."""
    array = np.ascontiguousarray(values.cpu() if isinstance(values, Tensor) else values)
    header = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
