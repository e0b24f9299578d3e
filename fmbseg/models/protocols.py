"""What the method needs of its three foundation models; all are frozen and in `eval` mode.

Every model takes the raw RGB image and does its own preprocessing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fmbseg.models.tiles import Tile
from fmbseg.types import Image


@dataclass(frozen=True)
class DenseClip:
    """CLIP's view of one image, in the joint space, float32 on the CPU.

    Attributes:
        patches: unit-length features of the stitched map (mean of the overlapping crops'
            unit-length patch features, normalised again).
        cls: unit-length feature of every crop, in row-major order: its class token, or what a
            tower without one pools.
    """

    patches: Float[Tensor, "rows cols dim"]
    cls: Float[Tensor, "crop dim"]


class TextModel(Protocol):
    """The half of CLIP that reads."""

    def encode_text(
        self, names: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "category dim"]:
        """Unit-length float32 text features, one per class name.

        Through the model's own template, or the mean over the `templates` given.
        """
        ...


@runtime_checkable
class ClipModel(TextModel, Protocol):
    """Knows what."""

    dim: int

    def encode_dense(self, image: Image) -> DenseClip:
        """Encode the crops of the upsampled image; Paper: section on stage 1.1, step 1."""
        ...


@runtime_checkable
class GivesValues(ClipModel, Protocol):
    """A CLIP whose patches can be mixed by somebody else's attention."""

    def encode_values(self, image: Image) -> Float[Tensor, "rows cols inner"]:
        """What the last block's attention would take from every patch, float32 on the CPU."""
        ...

    def project_values(self, values: Float[Tensor, "*place inner"]) -> Float[Tensor, "*place dim"]:
        """Values, or weighted means of them, in the joint space: unit length, on the CPU."""
        ...


@dataclass(frozen=True)
class ClipBranches:
    """One image's patches on up to three ways to the joint space, float32 on the CPU.

    Attributes:
        values: what the last block's attention would take from every patch.
        regions: the class token of the region that the patch lies in.
        middle: what the last block's attention would take of the mean output of the middle blocks;
            None where the tower has too few blocks to have such.
    """

    values: Float[Tensor, "rows cols inner"]
    regions: Float[Tensor, "rows cols inner"]
    middle: Float[Tensor, "rows cols inner"] | None


@runtime_checkable
class GivesBranches(GivesValues, Protocol):
    """A CLIP that also offers its middle blocks, and class tokens that see one region each."""

    def encode_branches(self, image: Image, regions: Int64[Tensor, "_rows _cols"]) -> ClipBranches:
        """All of them on CLIP's own grid; regions are numbered from 0, on any grid."""
        ...

    def project_branches(
        self, branches: ClipBranches, region_weight: float, middle_weight: float
    ) -> Float[Tensor, "rows cols dim"]:
        """Their weighted sum in the joint space: unit length, on the CPU."""
        ...


@dataclass(frozen=True)
class SamEmbedding:
    """One image as the encoder of a `SamModel` left it, to be shared by all prompts.

    Attributes:
        image_hw: size of the original image, px.
        encoded: what the model that made it needs again, such as one or several feature maps on
            its device; nobody else looks inside.
    """

    image_hw: tuple[int, int]
    encoded: Any


Wanted = Callable[[Float[Tensor, "prompt mask"]], Bool[Tensor, "prompt mask"]]
"""From the predicted IoU of some prompts' masks to which of the masks are wanted, on the CPU."""


@dataclass(frozen=True)
class SamPrediction:
    """Three candidate masks for each prompt set; logits of those wanted.

    Attributes:
        logits: low-resolution mask logits (inside means > 0), in order of prompt and mask, on the
            model's device.
        predicted_iou: SAM's own quality estimate of every mask, wanted or not, on the CPU.
        wanted: the masks that `logits` holds, on the CPU.
    """

    logits: Float[Tensor, "wanted low_height low_width"]
    predicted_iou: Float[Tensor, "prompt mask"]
    wanted: Bool[Tensor, "prompt mask"]

    @property
    def scores(self) -> Float[Tensor, " wanted"]:
        """Predicted IoU of the wanted masks."""
        return self.predicted_iou[self.wanted]

    @property
    def prompts(self) -> list[int]:
        """Index of each wanted mask's prompt."""
        found: list[int] = self.wanted.nonzero()[:, 0].tolist()
        return found


@runtime_checkable
class SamModel(Protocol):
    """Knows where. `grid_side`: patches along one side of its encoder (64 for vit_h)."""

    grid_side: int

    def embed(self, image: Image) -> SamEmbedding:
        """Run the image encoder once; only the same model can use the answer."""
        ...

    def predict_points(
        self,
        embedding: SamEmbedding,
        points_xy_px: Float[np.ndarray, "prompt point 2"],
        wanted: Wanted | None = None,
    ) -> SamPrediction:
        """Three masks for each set of joint positive points (x, y in px of the original image).

        `wanted` is asked for a few prompts at a time, and answers for each of them by what
        it alone is given; None wants all masks.
        """
        ...

    def upscale(
        self, embedding: SamEmbedding, logits: Float[Tensor, "mask low_height low_width"]
    ) -> Float[Tensor, "mask height width"]:
        """Low-resolution logits to logits at the original image's size."""
        ...


@dataclass(frozen=True)
class SamAttention:
    """What the last block of SAM's encoder attends to in one image, on the model's device.

    Attributes:
        grid_hw: rows and columns of patches; those of the padding are left out.
        values: of that block, the heads side by side; patches in row-major order.
        weights: from some patches to their attention, the mean over the heads; rows sum to less
            than 1 where the padding had a part.
    """

    grid_hw: tuple[int, int]
    values: Float[Tensor, "patch inner"]
    weights: Callable[[slice], Float[Tensor, "_some _patch"]]


@runtime_checkable
class ShowsAttention(SamModel, Protocol):
    """A SAM whose encoder's attention can be had."""

    def embed_attending(self, image: Image) -> tuple[SamEmbedding, SamAttention]:
        """`embed`, and the last block's attention, of one pass."""
        ...


@runtime_checkable
class TakesRegions(SamModel, Protocol):
    """A SAM that can be asked for regions that are known coarsely."""

    def predict_regions(
        self,
        embedding: SamEmbedding,
        points_xy_px: Float[np.ndarray, "prompt 2"],
        corners_px: Float[np.ndarray, "prompt 4"],
        masks: Float[Tensor, "prompt low_height low_width"],
        wanted: Wanted | None = None,
    ) -> SamPrediction:
        """One mask for each point, box (left, top, right, bottom) and mask given together."""
        ...

    def downscale(
        self, embedding: SamEmbedding, maps: Float[Tensor, "map height width"]
    ) -> Float[Tensor, "map low_height low_width"]:
        """Maps of the image's size laid out as `predict_regions` takes masks."""
        ...


@runtime_checkable
class VisionModel(Protocol):
    """Gives consistent patch features."""

    dim: int

    def encode(self, image: Image) -> Float[Tensor, "rows cols dim"]:
        """Patch features after the final norm, float32 on the CPU, prefix tokens dropped."""
        ...

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of `encode`'s answer for an image of that size, px."""
        ...


@runtime_checkable
class TakesTiles(VisionModel, Protocol):
    """A vision encoder that can see a part of an image at the whole's scale.

    Attributes:
        patch_hw: size of a patch, px.
    """

    patch_hw: tuple[int, int]

    def encode_tiles(
        self, image: Image, tiles: Sequence[Tile]
    ) -> Iterator[Float[Tensor, "_rows _cols dim"]]:
        """Patch features of each tile, which knows of nothing beyond it; see `encode`."""
        ...


@runtime_checkable
class TakesSeveral(Protocol):
    """What a CLIP, SAM or vision encoder may offer beside its own protocol, to be quicker.

    What it does to an image before the model (resizing, say) can be done by another thread, and
    the model itself takes several images.

    Attributes:
        images_at_once: so many images are worth handing over together; 1 where it gains nothing.
    """

    images_at_once: int

    def prepare(self, image: Image) -> Any:
        """What `encode_prepared` takes for an image."""
        ...

    def encode_prepared(self, prepared: Sequence[Any]) -> list[Any]:
        """What the model's own method answers to each image, in order."""
        ...
