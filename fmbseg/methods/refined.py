"""A method of patches whose answer then follows the image's edges."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from fmbseg.methods.pixel_refinement import refined
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.segmentation import PatchSegmentation, Prompts
from fmbseg.types import Image, LabelMap

Refine = Literal["none", "fast"]
"""none: similarities are interpolated, as the paper does; fast: `pixel_refinement.refined`."""


@dataclass
class RefinedSegmentation:
    """Another method's similarities, refined at every image, or at every window of a protocol.

    Attributes:
        inner: gives the similarities.
        name: what its results are filed under.
    """

    inner: PatchSegmentation
    name: str

    def prompted(self, prompts: Prompts) -> Self:
        """The same of the method prompted anew."""
        return replace(self, inner=self.inner.prompted(prompts))

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Class of the highest refined similarity of every pixel; see `Segmentation`."""
        (grid,) = self.inner.similarity_grids([image], class_names)
        found = refined(grid, image)
        if not similarities:
            return found.labels(image.shape[:2], class_names)
        return label_pixels(found, image.shape[:2], class_names, similarities=similarities)
