"""CLIP's image towers of open_clip, each giving one feature a crop and one a patch.

A tower of open_clip's own with a class token answers every projection of its last block. A tower
of timm (SigLIP, PE-Core, EVA, MobileCLIP, ConvNeXt) answers `maskclip` and `plain` by one rule:
a patch's feature is what the tower answers when the patch stands alone before its pooling, so it
sees itself only. Where the tower pools by attention or by the mean, both projections are that.
Where it has a class token, which gathers in the last block, `maskclip` sends each patch alone
through that block's attention too; `plain` takes the block's own patches.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fmbseg.models.clip_branches import branches_of, project_branches
from fmbseg.models.clip_projection import (
    PROJECTIONS,
    project_tokens,
    project_values,
    values_of,
)

_BY_TIMM = ("plain", "maskclip")


class ClassTokenTower:
    """open_clip's own VisionTransformer with a class token.

    Attributes:
        dim: size of the joint space.
        crop_hw: size of a crop, px.
        patch_hw: size of a patch, px.
        width: of the values, and of the tokens.
    """

    def __init__(self, visual: VisionTransformer, projection: str) -> None:
        if visual.attn_pool is not None or visual.pool_type != "tok":
            raise ValueError(
                "CLIP's image tower: found open_clip's VisionTransformer that pools its patches, "
                "wanted a class token, or a tower of timm"
            )
        self._visual, self._projection = visual, PROJECTIONS[projection]
        self.dim: int = visual.proj.shape[1]
        self.crop_hw: tuple[int, int] = visual.image_size
        self.patch_hw: tuple[int, int] = visual.patch_size
        self.width: int = visual.proj.shape[0]

    def __call__(
        self, pixels: Float[Tensor, "crop 3 height width"]
    ) -> tuple[Float[Tensor, "crop dim"], Float[Tensor, "crop rows cols dim"]]:
        """The tower's own feature of each normalised crop, and those of its patches."""
        cls, patches = project_tokens(self._visual, pixels, self._projection)
        return cls, patches.unflatten(1, self._visual.grid_size)

    def values(
        self, pixels: Float[Tensor, "crop 3 height width"]
    ) -> Float[Tensor, "crop rows cols inner"]:
        """The last block's values of every patch."""
        found: Tensor = values_of(self._visual, pixels).unflatten(1, self._visual.grid_size)
        return found

    def project_values(self, values: Float[Tensor, "place inner"]) -> Float[Tensor, "place dim"]:
        """Such values in the joint space, not of unit length."""
        return project_values(self._visual, values)

    def branches(
        self,
        pixels: Float[Tensor, "crop 3 height width"],
        inside: Bool[Tensor, "crop region patch"],
    ) -> Float[Tensor, "crop rows cols all_inner"]:
        """See `branches_of`."""
        found = branches_of(self._visual, pixels, inside)
        placed: Tensor = found.unflatten(1, self._visual.grid_size)
        return placed

    def project_branches(
        self, branches: Float[Tensor, "place all_inner"], *weights: float
    ) -> Float[Tensor, "place dim"]:
        """See `project_branches` of `fmbseg.models.clip_branches`."""
        return project_branches(self._visual, branches, *weights)


class TimmTower:
    """A tower of timm that pools by a class token, by attention or by the mean.

    Its attributes are those of `ClassTokenTower`. It has no values to offer: what its patches
    lack on the way to the joint space differs from tower to tower.
    """

    width = 0

    def __init__(self, visual: TimmModel, projection: str) -> None:
        trunk: Any = visual.trunk
        self._visual, self._trunk = visual, trunk
        what = f"CLIP's image tower {type(trunk).__name__}"
        if projection not in _BY_TIMM:
            raise ValueError(
                f"models.projection: found {projection}, which changes open_clip's own last block; "
                f"wanted maskclip with {what}"
            )
        self._last = None
        if projection == "maskclip" and getattr(trunk, "global_pool", "") == "token":
            self._last = trunk.blocks[-1]
            if not isinstance(self._last, Block | EvaBlock) or len(trunk.blocks) < 2:
                raise ValueError(
                    f"models.projection: found maskclip; {what} has a last block of another form "
                    f"({type(self._last).__name__}), wanted a CLIP with a plain one"
                )
        self.crop_hw: tuple[int, int] = tuple(visual.image_size)
        probe = torch.zeros(1, 3, *self.crop_hw, device=next(visual.parameters()).device)
        try:
            with torch.inference_mode():
                patches = self(probe)[1]
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            line = " ".join(str(error).split())[:120]
            raise ValueError(f"{what} gives no features of single patches ({line})") from None
        rows, cols, self.dim = patches.shape[1:]
        self.patch_hw = self.crop_hw[0] // rows, self.crop_hw[1] // cols
        if (self.patch_hw[0] * rows, self.patch_hw[1] * cols) != self.crop_hw:
            raise ValueError(
                f"{what}: found crops of {self.crop_hw} px in {rows} x {cols} patches, wanted "
                "whole patches; take the variant of another image size"
            )

    def __call__(
        self, pixels: Float[Tensor, "crop 3 height width"]
    ) -> tuple[Float[Tensor, "crop dim"], Float[Tensor, "crop rows cols dim"]]:
        """The tower's own feature of each normalised crop, and those of its patches."""
        trunk = self._trunk
        if self._last is None:
            found = trunk.forward_features(pixels)
        else:
            found, (before,) = trunk.forward_intermediates(
                pixels, indices=[len(trunk.blocks) - 2], output_fmt="NLC"
            )
        if found.ndim == 4:  # a map of convolutions
            patches = found.permute(0, 2, 3, 1)
            grid, single = patches.shape[1:3], patches.flatten(0, 2)[:, :, None, None]
        else:
            grid, prefix = trunk.patch_embed.grid_size, trunk.num_prefix_tokens
            patches = found[:, prefix:] if self._last is None else self._valued(before)
            # In the prefix's places stands the patch again, whichever of them the pooling takes.
            single = patches.flatten(0, 1)[:, None].expand(-1, 1 + prefix, -1)
        features = self._head(single).unflatten(0, (len(pixels), *grid))
        return self._head(found), features

    def values(
        self, pixels: Float[Tensor, "crop 3 height width"]
    ) -> Float[Tensor, "crop rows cols inner"]:
        """None: raises ValueError."""
        raise self._no_values()

    def project_values(self, values: Float[Tensor, "place inner"]) -> Float[Tensor, "place dim"]:
        """None: raises ValueError."""
        raise self._no_values()

    def branches(
        self,
        pixels: Float[Tensor, "crop 3 height width"],
        inside: Bool[Tensor, "crop region patch"],
    ) -> Float[Tensor, "crop rows cols all_inner"]:
        """None: raises ValueError."""
        raise self._no_values()

    def project_branches(
        self, branches: Float[Tensor, "place all_inner"], *weights: float
    ) -> Float[Tensor, "place dim"]:
        """None: raises ValueError."""
        raise self._no_values()

    def _no_values(self) -> ValueError:
        return ValueError(
            f"CLIP's image tower {type(self._trunk).__name__}: found a tower of timm, wanted "
            "open_clip's own VisionTransformer; methods that mix CLIP's values need one"
        )

    def _head(self, found: Tensor) -> Float[Tensor, "crop dim"]:
        """The tower's own way from the trunk's tokens or map to the joint space."""
        pooled: Tensor = self._visual.head(self._trunk.forward_head(found))
        return pooled

    def _valued(
        self, tokens: Float[Tensor, "crop patch width"]
    ) -> Float[Tensor, "crop patch width"]:
        """The last block's attention of every patch to itself, without residual and MLP."""
        block: Any = self._last
        single = tokens.flatten(0, 1)[:, None]
        out = block.attn(block.norm1(single))
        if isinstance(block, Block):
            out = block.ls1(out)
        elif block.gamma_1 is not None:
            out = block.gamma_1 * out
        normed: Tensor = self._trunk.norm(out[:, 0].unflatten(0, tokens.shape[:2]))
        return normed


Tower = ClassTokenTower | TimmTower


def tower_of(visual: nn.Module, projection: str) -> Tower:
    """The tower of an open_clip model, which must be where it will run and in `eval` mode.

    Raises:
        ValueError: no such projection, the tower has another form, or it cannot answer with this
            projection.
    """
    if projection not in PROJECTIONS:
        raise ValueError(f"projection: found {projection!r}, wanted {', '.join(PROJECTIONS)}")
    if isinstance(visual, VisionTransformer):
        return ClassTokenTower(visual, projection)
    if isinstance(visual, TimmModel):
        return TimmTower(visual, projection)
    raise ValueError(
        f"CLIP's image tower: found {type(visual).__name__}, wanted open_clip's VisionTransformer "
        "(names such as ViT-B-16-quickgelu) or a tower of timm (ViT-B-16-SigLIP)"
    )
