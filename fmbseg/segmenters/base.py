"""What every method answers, and how similarities on a grid become labels of pixels."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.evaluate.sliding import resize_short_side, resize_similarities, sliding_window
from fmbseg.models.protocols import ClipModel
from fmbseg.types import Image, LabelMap

_MAX_ELEMENTS = 2**25
"""Classes x pixels that are interpolated at once: 128 MB."""


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


class TextFeatures:
    """CLIP's text features, computed once per class list."""

    def __init__(self, clip: ClipModel, most_lists: int = 16) -> None:
        """Keep the features of the `most_lists` lists used last."""
        self._clip, self._most_lists = clip, most_lists
        self._known: dict[tuple[str, ...], Float[Tensor, "category dim"]] = {}

    def __call__(self, class_names: Sequence[str]) -> Float[Tensor, "category dim"]:
        """Unit-length features of the names, float32 on the CPU.

        Raises:
            ValueError: no name at all.
        """
        names = tuple(class_names)
        if not names:
            raise ValueError("class names: found an empty list; wanted at least one name")
        texts = self._known.pop(names, None)
        if texts is None:
            texts = self._clip.encode_text(names).float().cpu()
        self._known[names] = texts
        if len(self._known) > self._most_lists:
            del self._known[next(iter(self._known))]
        return texts


def label_pixels(
    grid: Float[Tensor, "category rows cols"],
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    similarities: bool = False,
    max_elements: int = _MAX_ELEMENTS,
) -> LabelMap:
    """Interpolate similarities to the image's size and take the best class per pixel.

    Without `similarities` this goes class group by class group, so that memory is bounded however
    many classes and pixels there are; the answer is the same. Ties go to the lower index.

    Args:
        grid: cosine per class and patch.
        image_hw: wanted size, px.
        class_names: one per class.
        similarities: keep the interpolated ones in the answer.
        max_elements: classes x pixels to hold at once.

    Paper: section 3.3, bilinear interpolation of the similarities, then argmax.
    """
    names = tuple(class_names)
    if similarities:
        full = resize_similarities(grid.float(), image_hw)
        return LabelMap(full.argmax(0).int().numpy(), names, full.numpy())
    group = max(1, max_elements // (image_hw[0] * image_hw[1]))
    best, labels = resize_similarities(grid[:group].float(), image_hw).max(0)
    for start in range(group, len(grid), group):
        value, index = resize_similarities(grid[start : start + group].float(), image_hw).max(0)
        better = value > best
        best = torch.where(better, value, best)
        labels = torch.where(better, index + start, labels)
    return LabelMap(labels.int().numpy(), names)


class SlidingSegmentation:
    """Another method in overlapping windows of the resized image.

    Attributes:
        name: of the inner method.

    Paper: section 4, after the protocol of TCL.
    """

    def __init__(
        self, inner: Segmentation, short_side_px: int, window_px: int, stride_px: int
    ) -> None:
        """Wrap a method that answers with similarities."""
        self.name = inner.name
        self._inner = inner
        self._short_side_px, self._window_px, self._stride_px = short_side_px, window_px, stride_px

    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Average the windows' similarities, interpolate to the image's size, take the best.

        Raises:
            ValueError: the inner method has no similarities.
        """
        resized = resize_short_side(image, self._short_side_px)
        averaged = sliding_window(
            resized, self._window_px, self._stride_px, self._window(class_names)
        )
        return label_pixels(averaged, image.shape[:2], class_names, similarities=similarities)

    def _window(self, class_names: Sequence[str]) -> Callable[[Image], Tensor]:
        def similarities_of(window: Image) -> Tensor:
            found = self._inner.segment(window, class_names, similarities=True).similarities
            if found is None:
                raise ValueError(f"{self.name} has no similarities to average; use protocol whole")
            return torch.from_numpy(np.asarray(found))

        return similarities_of
