"""CLIP by open_clip: features of overlapping crops and a dense map in the joint space."""

from collections.abc import Sequence

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.models.clip_config import TEMPLATE, Tokenizer
from fmbseg.models.clip_towers import Tower
from fmbseg.models.images import (
    ShortSide,
    crop_starts_px,
    normalised_pixels,
    patch_aligned_hw,
    require_rgb,
)
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
        self._batch_crops = batch_crops
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
        require_rgb(image)
        height, width = image.shape[:2]
        size_hw = patch_aligned_hw(
            (height, width), self.patch_hw, self._short_side_px, self.crop_hw
        )
        pixels = normalised_pixels(image, size_hw, self._interpolation, self._mean, self._std)
        tops, lefts = (
            crop_starts_px(size, crop, stride)
            for size, crop, stride in zip(size_hw, self.crop_hw, self._stride_hw, strict=True)
        )
        corners = [(top, left) for top in tops for left in lefts]
        crop_h, crop_w = self.crop_hw
        rows, cols = (s // p for s, p in zip(size_hw, self.patch_hw, strict=True))
        total = torch.zeros(rows, cols, self.dim)
        features = []
        for first in range(0, len(corners), self._batch_crops):
            batch = corners[first : first + self._batch_crops]
            crops = [pixels[:, top : top + crop_h, left : left + crop_w] for top, left in batch]
            with torch.inference_mode():
                of_crops, patches = self._tower(torch.stack(crops).to(self.device))
                patches = normalize(patches.float(), dim=3).cpu()
                features.append(normalize(of_crops.float(), dim=1).cpu())
            for (top, left), crop_patches in zip(batch, patches, strict=True):
                row, col = top // self.patch_hw[0], left // self.patch_hw[1]
                grid_h, grid_w = crop_patches.shape[:2]
                total[row : row + grid_h, col : col + grid_w] += crop_patches
        return DenseClip(patches=normalize(total, dim=2), cls=torch.cat(features))

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
        with torch.inference_mode():
            parts = [
                normalize(self.model.encode_text(part.to(self.device)).float(), dim=1).cpu()
                for part in tokens.split(256)
            ]
        features = torch.cat([part.clone() for part in parts])
        if len(chosen) == 1:
            return features
        return normalize(features.unflatten(0, (len(chosen), len(names))).mean(dim=0), dim=1)


def _require_templates(templates: Sequence[str]) -> None:
    if not templates:
        raise ValueError("templates: found none, wanted at least one")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template: found {template!r}, wanted one {{}} for the class name")
