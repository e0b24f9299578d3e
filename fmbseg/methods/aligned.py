"""FMbSeg itself: frozen patch features, mapped into CLIP's text space by the trained head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.text_features import TextPrompted
from fmbseg.models.encoder import encoder_of
from fmbseg.models.protocols import ClipModel, TakesTiles, VisionModel
from fmbseg.models.tiles import Stitched, Tile, tiles_of
from fmbseg.progress import progress
from fmbseg.types import Image, Images, LabelMap
from fmbseg.vocabulary import Vocabulary

TILE_SIDE_PX = 2048
"""A resized image of more pixels than a square of this side is encoded in tiles."""


@dataclass(frozen=True)
class EncodedImage:
    """An image as the model sees it, whatever words are asked for; `Segmenter.encode` makes it.

    Attributes:
        features: of its patches in the text space, unit length, on the model's device.
        image_hw: size of the image, px.
    """

    features: Float[Tensor, "rows cols dim"]
    image_hw: tuple[int, int]


class AlignedSegmentation(TextPrompted):
    """Vision encoder, alignment head, CLIP's text encoder; SAM and CLIP's images take no part.

    Attributes:
        name: what its results are filed under.
        vision: gives the patch features.
        head: maps them into the text space.
        tile_side_px: a resized image of more pixels than its square is encoded in tiles.

    Paper: section 3.3.
    """

    def __init__(
        self,
        vision: VisionModel,
        head: AlignmentHead,
        clip: ClipModel,
        name: str = "fmbseg",
        *,
        tile_side_px: int = TILE_SIDE_PX,
    ) -> None:
        """Compose the parts.

        Args:
            vision: gives the patch features.
            head: trained for these models.
            clip: reads the class names.
            name: what the results are filed under.
            tile_side_px: see `aligned`.

        Raises:
            ValueError: the head was trained for models of other widths.
        """
        if (head.vision_dim, head.text_dim) != (vision.dim, clip.dim):
            raise ValueError(
                f"alignment head: maps {head.vision_dim} to {head.text_dim}, the models have "
                f"{vision.dim} (vision) and {clip.dim} (CLIP); use the models it was trained with"
            )
        super().__init__(name, clip)
        self.vision, self.head = vision, head.eval()
        self.tile_side_px = tile_side_px

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
        return encoder_of(self.vision, self.vision.encode).images_at_once

    @torch.inference_mode()
    def similarity_grids(
        self, images: Images, class_names: Sequence[str]
    ) -> list[Float[Tensor, "category _rows _cols"]]:
        """Cosine of every aligned patch and every name, image by image."""
        texts = self._texts(class_names)
        return [cosines(features, texts) for features in self.aligned(images)]

    def encode_names(self, classes: Sequence[str] | Vocabulary) -> Float[Tensor, "category dim"]:
        """Text features of class names, or of a vocabulary as training has them; see `encode`."""
        return self._texts(classes)

    @torch.inference_mode()
    def similarity_grid(
        self, image: Image, texts: Float[Tensor, "category dim"]
    ) -> Float[Tensor, "category rows cols"]:
        """Cosine of every aligned patch and every text, on the head's device; see `aligned`."""
        return cosines(self._aligned(image), texts)

    @torch.inference_mode()
    def aligned(self, images: Images) -> Iterator[Float[Tensor, "_rows _cols text"]]:
        """Patch features of each image in the text space, unit length, on the head's device.

        Several images of one size go through the encoder together where it takes several. Where a
        resized image has more pixels than a square of `tile_side_px`, encoder and head see
        overlapping tiles, whose aligned features are stitched together: unit-length features are
        averaged where tiles overlap, the more the further a patch lies inside its tile.
        """
        if len(images) == 1 or any(len(self._tiles(image)) > 1 for image in images):
            for image in images:
                yield self._aligned(image)
            return
        encoder = encoder_of(self.vision, self.vision.encode)
        for _, features in encoder.over(images, lambda image: image):
            yield self.align(features)

    def _aligned(self, image: Image) -> Float[Tensor, "rows cols text"]:
        tiles = self._tiles(image)
        if len(tiles) == 1 or not isinstance(self.vision, TakesTiles):
            return self.align(self.vision.encode(image))
        whole = Stitched(self.vision.grid_hw((image.shape[0], image.shape[1])))
        with progress("image in tiles", total=len(tiles), unit="tile") as done:
            for tile, features in zip(tiles, self.vision.encode_tiles(image, tiles), strict=True):
                whole.add(tile, self.align(features))
                done.update()
        return whole.features()

    @torch.inference_mode()
    def align(self, features: Float[Tensor, "rows cols dim"]) -> Float[Tensor, "rows cols text"]:
        """Patch features of one image in the text space, unit length, on the head's device."""
        device = next(self.head.parameters()).device
        patches = features.float().flatten(0, 1)[None].to(device, non_blocking=True)
        aligned: Tensor = self.head(patches)[0].unflatten(0, features.shape[:2])
        return aligned

    def _tiles(self, image: Image) -> list[Tile]:
        """One where the encoder sees the image whole."""
        grid_hw = self.vision.grid_hw((image.shape[0], image.shape[1]))
        if not isinstance(self.vision, TakesTiles):
            return [Tile(0, 0, *grid_hw)]
        return tiles_of(grid_hw, max(1, self.tile_side_px // max(self.vision.patch_hw)))


@torch.inference_mode()
def cosines(
    aligned: Float[Tensor, "rows cols dim"], texts: Float[Tensor, "category dim"]
) -> Float[Tensor, "category rows cols"]:
    """Cosine of every aligned patch and every text, both of unit length, on the patches' device."""
    return torch.einsum("rcd,kd->krc", aligned, texts.to(aligned.device, non_blocking=True))
