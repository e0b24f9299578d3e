"""CLIP by open_clip: features of overlapping crops and a dense map in the joint space."""

from collections.abc import Callable, Sequence
from math import prod

import open_clip
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.models.batches import Batches, BudgetGb, meter_of
from fmbseg.models.clip_branches import inside_of, nearest
from fmbseg.models.clip_config import TEMPLATE, Tokenizer
from fmbseg.models.clip_text import OpenClipText
from fmbseg.models.clip_towers import Tower
from fmbseg.models.device import moved, pinned
from fmbseg.models.images import (
    ShortSide,
    crop_starts_px,
    normalised_pixels,
    patch_aligned_hw,
    require_rgb,
)
from fmbseg.models.precision import Precision, encoding
from fmbseg.models.protocols import ClipBranches, DenseClip
from fmbseg.types import Image

AUTO_SHORT_SIDE_CROPS = 3.0
"""`short_side_px="auto"`: the image's short side in sides of a crop (672 px for ViT-L/14)."""


class OpenClipDense(OpenClipText):
    """A frozen open_clip model behind `ClipModel`.

    Attributes:
        model: the open_clip model, in `eval` mode, without gradients.
        dim: size of the joint space.
        crop_hw: size of a crop, px; the model's own input size.
        patch_hw: size of a patch, px.
        precision: that it computes in; its answers are float32.
        images_at_once: see `TakesSeveral`.
    """

    def __init__(
        self,
        model: open_clip.CLIP | open_clip.CustomTextCLIP,
        tower: Tower,
        tokenizer: Tokenizer,
        device: torch.device,
        *,
        template: str = TEMPLATE,
        short_side_px: ShortSide = None,
        stride_fraction: float = 0.5,
        batch_crops: int = 32,
        precision: Precision = "float32",
        batch_memory_gb: BudgetGb = "auto",
    ) -> None:
        """Take a frozen model that is on the device, and its image tower.

        Raises:
            ValueError: an option is out of its range.
        """
        super().__init__(model, tokenizer, device, template, precision)
        if not 0 < stride_fraction <= 1:
            raise ValueError(f"stride_fraction: found {stride_fraction}, wanted above 0, up to 1")
        if batch_crops < 1:
            raise ValueError(f"batch_crops: found {batch_crops}, wanted at least 1")
        self._tower = tower
        self.dim, self.crop_hw, self.patch_hw = tower.dim, tower.crop_hw, tower.patch_hw
        auto_px = round(AUTO_SHORT_SIDE_CROPS * min(self.crop_hw))
        self._short_side_px = auto_px if short_side_px == "auto" else short_side_px
        self._batches = Batches("CLIP", meter_of(device), batch_memory_gb, unmeasured=batch_crops)
        self.images_at_once = self._batches.images
        self._stride_hw = tuple(
            max(1, round(stride_fraction * crop / patch)) * patch
            for crop, patch in zip(self.crop_hw, self.patch_hw, strict=True)
        )
        preprocess = self.model.visual.preprocess_cfg
        self._mean, self._std = tuple(preprocess["mean"]), tuple(preprocess["std"])
        self._interpolation: str = preprocess["interpolation"]

    def encode_dense(self, image: Image) -> DenseClip:
        """Encode the crops of the upsampled image.

        The image is resized to whole patches (never below one crop), cut into crops whose edges
        lie on patch borders, the last row and column of crops shifted to the image's border.
        Every patch of the map is the mean of the unit-length features of the crops that cover
        it, scaled to unit length again.

        Args:
            image: RGB, 0 to 255, of any size.

        Returns:
            The map over the whole image and one feature a crop, float32 on the CPU.

        Raises:
            ValueError: not an RGB image.

        Paper: stage 1.1, step 1.
        """
        return self.encode_prepared([self.prepare(image)])[0]

    def prepare(self, image: Image) -> Float[Tensor, "3 new_height new_width"]:
        """The image as `encode_prepared` wants it, resized and normalised, on the CPU.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        height, width = image.shape[:2]
        size_hw = patch_aligned_hw(
            (height, width), self.patch_hw, self._short_side_px, self.crop_hw
        )
        pixels = normalised_pixels(image, size_hw, self._interpolation, self._mean, self._std)
        return pinned(pixels, self.device)

    def encode_prepared(
        self, prepared: Sequence[Float[Tensor, "3 _height _width"]]
    ) -> list[DenseClip]:
        """`encode_dense` of several images in order; crops of `images_at_once` go together."""
        step = self.images_at_once
        parts = (prepared[start : start + step] for start in range(0, len(prepared), step))
        return [dense for part in parts for dense in self._stitched(part)]

    def _stitched(self, prepared: Sequence[Float[Tensor, "3 _height _width"]]) -> list[DenseClip]:
        """The crops of all images go through in batches; their maps stay on the device."""
        pixels = [moved(one, self.device) for one in prepared]
        maps = [
            torch.zeros(one.shape[1] // self.patch_hw[0], one.shape[2] // self.patch_hw[1],
                        self.dim, device=self.device)
            for one in pixels
        ]  # fmt: skip
        corners = [self._corners(one) for one in pixels]
        places = [(image, *place) for image, each in enumerate(corners) for place in each]
        crop_h, crop_w = self.crop_hw

        def encoded(some: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
            crops = [pixels[i][:, y : y + crop_h, x : x + crop_w] for i, y, x in some]
            with encoding(self.device, self.precision):
                of_crops, patches = self._tower(torch.stack(crops))
                return normalize(of_crops.float(), dim=1), normalize(patches.float(), dim=3)

        tokens, elements = [], 3 * prod(self.crop_hw)
        for some, (of_crops, patches) in self._batches.over(places, encoded, elements):
            tokens.append(of_crops)
            for (image, top, left), crop_patches in zip(some, patches, strict=True):
                row, col = top // self.patch_hw[0], left // self.patch_hw[1]
                grid_h, grid_w = crop_patches.shape[:2]
                maps[image][row : row + grid_h, col : col + grid_w] += crop_patches
        of_images = torch.cat(tokens).cpu().split([len(each) for each in corners])
        return [
            DenseClip(patches=normalize(total, dim=2).cpu(), cls=cls)
            for total, cls in zip(maps, of_images, strict=True)
        ]

    def encode_values(self, image: Image) -> Float[Tensor, "rows cols inner"]:
        """What the last block's attention would take from every patch, on the CPU.

        The values of the crops that cover a patch are averaged. `project_values` of a patch's own
        is what the projection `maskclip` answers.

        Raises:
            ValueError: not an RGB image, or a tower without one last attention of its own.
        """
        pixels = moved(self.prepare(image), self.device)
        return self._averaged(pixels, lambda crops, _: self._tower.values(crops))

    def encode_branches(self, image: Image, regions: Int64[Tensor, "_rows _cols"]) -> ClipBranches:
        """Values, the regions' class tokens and the middle blocks' values of every patch.

        Each crop has its own token of a region that reaches into it; what the crops that cover a
        patch give it is averaged.

        Args:
            image: RGB.
            regions: numbers from 0 on any grid, brought to CLIP's by the nearest.

        Raises:
            ValueError: not an RGB image, or a tower without one last attention of its own.
        """
        pixels = moved(self.prepare(image), self.device)
        placed = moved(nearest(regions, self._grid_of(pixels)), self.device)
        crop_grid = self.crop_hw[0] // self.patch_hw[0], self.crop_hw[1] // self.patch_hw[1]
        numbers = int(regions.max()) + 1

        def of_crops(crops: Tensor, corners: Sequence[tuple[int, int]]) -> Tensor:
            return self._tower.branches(crops, inside_of(placed, numbers, corners, crop_grid))

        found = self._averaged(pixels, of_crops)
        values, tokens, *middle = found.split(self._tower.width, dim=2)
        return ClipBranches(values, tokens, middle[0] if middle else None)

    def project_values(self, values: Float[Tensor, "*place inner"]) -> Float[Tensor, "*place dim"]:
        """Values, or means of them, into the joint space: unit length, on the CPU.

        The last block's output projection, the tower's norm and its projection; neither the
        block's residual nor its MLP takes part.
        """
        flat = values.to(self.device, non_blocking=True).flatten(0, -2)
        with encoding(self.device, self.precision):
            found = normalize(self._tower.project_values(flat).float(), dim=1)
        placed: Tensor = found.cpu().unflatten(0, values.shape[:-1])
        return placed

    def project_branches(
        self, branches: ClipBranches, region_weight: float, middle_weight: float
    ) -> Float[Tensor, "rows cols dim"]:
        """Their weighted sum in the joint space: unit length, on the CPU.

        The values go the way of `project_values` up to the tower's norm, the region tokens go
        through that norm too, all are added up and projected.
        """
        parts = (branches.values, branches.regions, branches.middle)
        joined = torch.cat([one for one in parts if one is not None], dim=2)
        flat = joined.to(self.device, non_blocking=True).flatten(0, 1)
        with encoding(self.device, self.precision):
            found = self._tower.project_branches(flat, region_weight, middle_weight)
            placed: Tensor = normalize(found.float(), dim=1).cpu().unflatten(0, joined.shape[:2])
        return placed

    def _averaged(
        self,
        pixels: Float[Tensor, "3 height width"],
        of_crops: Callable[[Tensor, Sequence[tuple[int, int]]], Tensor],
    ) -> Float[Tensor, "rows cols inner"]:
        """The mean over all crops that cover a patch, on the CPU.

        Args:
            pixels: of an image, on the device.
            of_crops: from some crops and their first rows and columns of patches to what the
                tower gives of each patch.
        """
        (crop_h, crop_w), (patch_h, patch_w) = self.crop_hw, self.patch_hw

        def encoded(some: Sequence[tuple[int, int]]) -> Tensor:
            crops = torch.stack([pixels[:, y : y + crop_h, x : x + crop_w] for y, x in some])
            with encoding(self.device, self.precision):
                found = of_crops(crops, [(y // patch_h, x // patch_w) for y, x in some])
            return found.float()

        rows, cols = self._grid_of(pixels)
        seen, total = torch.zeros(rows, cols, 1, device=self.device), None
        elements = 3 * prod(self.crop_hw)
        for some, found in self._batches.over(self._corners(pixels), encoded, elements):
            if total is None:
                total = torch.zeros(rows, cols, found.shape[3], device=self.device)
            for (top, left), one in zip(some, found, strict=True):
                row, col = top // patch_h, left // patch_w
                place = slice(row, row + one.shape[0]), slice(col, col + one.shape[1])
                total[place] += one
                seen[place] += 1
        assert total is not None, "an image has a crop"
        return (total / seen).cpu()

    def _grid_of(self, pixels: Float[Tensor, "3 height width"]) -> tuple[int, int]:
        return pixels.shape[1] // self.patch_hw[0], pixels.shape[2] // self.patch_hw[1]

    def _corners(self, pixels: Float[Tensor, "3 height width"]) -> list[tuple[int, int]]:
        """Top and left edges of an image's crops, px, in row-major order."""
        tops, lefts = (
            crop_starts_px(size, crop, stride)
            for size, crop, stride in zip(
                pixels.shape[1:], self.crop_hw, self._stride_hw, strict=True
            )
        )
        return [(top, left) for top in tops for left in lefts]
