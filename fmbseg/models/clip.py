"""CLIP by open_clip: features of overlapping crops and a dense map in the joint space."""

from collections.abc import Sequence
from math import prod

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.models.batches import Batches, BudgetGb, meter_of
from fmbseg.models.clip_config import TEMPLATE, Tokenizer
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
from fmbseg.models.protocols import DenseClip
from fmbseg.types import Image

AUTO_SHORT_SIDE_CROPS = 3.0
"""`short_side_px="auto"`: the image's short side in sides of a crop (672 px for ViT-L/14)."""


class OpenClipDense:
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
        _require_templates([template])
        if not 0 < stride_fraction <= 1:
            raise ValueError(f"stride_fraction: found {stride_fraction}, wanted above 0, up to 1")
        if batch_crops < 1:
            raise ValueError(f"batch_crops: found {batch_crops}, wanted at least 1")
        self.model, self.device, self._tower = model, device, tower
        self.dim, self.crop_hw, self.patch_hw = tower.dim, tower.crop_hw, tower.patch_hw
        self._tokenizer, self._template = tokenizer, template
        auto_px = round(AUTO_SHORT_SIDE_CROPS * min(self.crop_hw))
        self._short_side_px = auto_px if short_side_px == "auto" else short_side_px
        self.precision = precision
        self._batches = Batches("CLIP", meter_of(device), batch_memory_gb, unmeasured=batch_crops)
        self.images_at_once = self._batches.images
        self._stride_hw = tuple(
            max(1, round(stride_fraction * crop / patch)) * patch
            for crop, patch in zip(self.crop_hw, self.patch_hw, strict=True)
        )
        preprocess = self.model.visual.preprocess_cfg
        self._mean, self._std = tuple(preprocess["mean"]), tuple(preprocess["std"])
        self._interpolation: str = preprocess["interpolation"]

    @property
    def temperature(self) -> float:
        """Of its training: a cosine higher by this makes a text e times as likely."""
        return float(1 / self.model.logit_scale.exp())

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

    def _corners(self, pixels: Float[Tensor, "3 height width"]) -> list[tuple[int, int]]:
        """Top and left edges of an image's crops, px, in row-major order."""
        tops, lefts = (
            crop_starts_px(size, crop, stride)
            for size, crop, stride in zip(
                pixels.shape[1:], self.crop_hw, self._stride_hw, strict=True
            )
        )
        return [(top, left) for top in tops for left in lefts]

    def encode_text(
        self, names: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "category dim"]:
        """Unit-length text features, one per class name, float32 on the CPU.

        Args:
            names: class names.
            templates: in place of the model's own; each with one `{}`. Of several, the
                unit-length features are averaged and scaled to unit length again.

        Raises:
            ValueError: no names, no templates, or a template without its one `{}`.
        """
        if not names:
            raise ValueError("names: found none, wanted at least one class name")
        chosen = [self._template] if templates is None else list(templates)
        _require_templates(chosen)
        tokens = self._tokenizer([template.format(name) for template in chosen for name in names])
        with encoding(self.device, self.precision):
            parts = [
                normalize(self.model.encode_text(part.to(self.device)).float(), dim=1)
                for part in tokens.split(256)
            ]
        features = torch.cat(parts).cpu()
        if len(chosen) == 1:
            return features
        return normalize(features.unflatten(0, (len(chosen), len(names))).mean(dim=0), dim=1)


def _require_templates(templates: Sequence[str]) -> None:
    if not templates:
        raise ValueError("templates: found none, wanted at least one")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template: found {template!r}, wanted one {{}} for the class name")
