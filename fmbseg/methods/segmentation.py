"""What evaluation asks of a method: an image and class names in, one class per pixel out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from fmbseg.types import Image, Images, LabelMap

if TYPE_CHECKING:  # who only asks whether there is something to do does not wait for torch
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """How a class name becomes the text that a text encoder reads.

    Attributes:
        templates: each with one `{}` for the name; the features of several are averaged.
        synonyms: other names of a class, by the name that is asked for; the unit-length features
            of all its names are averaged and scaled to unit length again.
    """

    templates: tuple[str, ...]
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@runtime_checkable
class Segmentation(Protocol):
    """A method: an image and any list of class names in, one class per pixel out."""

    name: str

    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Label the image at its own size.

        Args:
            image: RGB.
            class_names: plain names, without synonyms.
            similarities: keep them in the answer, where the method has any.
        """
        ...

    def prompted(self, prompts: Prompts) -> Self:
        """The same method with its class names put into words another way."""
        ...


@runtime_checkable
class ImageLabelSegmentation(Segmentation, Protocol):
    """A method that can be told which classes an image holds."""

    @property
    def needs_image_labels(self) -> bool:
        """It does not answer without being told; its figures use labels."""
        ...

    def segment(
        self,
        image: Image,
        class_names: Sequence[str],
        *,
        similarities: bool = False,
        present: Sequence[int] | None = None,
    ) -> LabelMap:
        """As `Segmentation.segment`; `present` holds the indices of the classes in the image."""
        ...


@runtime_checkable
class PatchSegmentation(Segmentation, Protocol):
    """A method whose answer is made of similarities of patches and of nothing else."""

    @property
    def images_at_once(self) -> int:
        """So many images are worth handing over together; 1 where it gains nothing."""
        ...

    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> 'list[Float[Tensor, "category _rows _cols"]]':
        """Cosine of every patch and class name, image by image; `segment` interpolates them."""
        ...


def needs_image_labels(method: Segmentation) -> bool:
    """Whether a method answers only when it is told an image's true classes."""
    return isinstance(method, ImageLabelSegmentation) and method.needs_image_labels


def ask(
    method: Segmentation,
    image: Image,
    class_names: Sequence[str],
    *,
    similarities: bool = False,
    present: Sequence[int] | None = None,
) -> LabelMap:
    """Ask a method, with the image's classes where it can be told them.

    Args:
        method: any.
        image: RGB.
        class_names: plain names.
        similarities: keep them in the answer.
        present: indices of the classes in the image; None where they are not given.

    Raises:
        ValueError: the classes are given, and the method has no use for them.
    """
    if present is None:
        return method.segment(image, class_names, similarities=similarities)
    if not isinstance(method, ImageLabelSegmentation):
        raise ValueError(
            f"{method.name}: found the image's classes, wanted none; the method cannot use them"
        )
    return method.segment(image, class_names, similarities=similarities, present=present)
