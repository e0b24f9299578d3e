"""How CLIP's last block turns its tokens into patch features.

CLIP trains its class token alone, so the last block's ordinary attention mixes the patches. Each
projection changes that block, and nothing else; the class token never sees the change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from jaxtyping import Float
from open_clip.transformer import (
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import Tensor
from torch.nn.functional import linear, pad, scaled_dot_product_attention

NEIGHBOURHOOD_STD_PATCHES = 5.0
"""Width of NACLIP's Gaussian window."""

Heads = Float[Tensor, "crop head token head_dim"]
PatchHeads = Float[Tensor, "crop head patch head_dim"]
Attend = Callable[[Heads, Heads, Heads, tuple[int, int]], PatchHeads]


def plain_attention(q: Heads, k: Heads, v: Heads, grid_hw: tuple[int, int]) -> PatchHeads:
    """The block's own attention; with residual and MLP it gives CLIP's own patch tokens."""
    return scaled_dot_product_attention(q[:, :, 1:], k, v)


def value_attention(q: Heads, k: Heads, v: Heads, grid_hw: tuple[int, int]) -> PatchHeads:
    """Each patch looks at itself only (MaskCLIP, arXiv 2112.01071)."""
    return v[:, :, 1:]


def self_correlative_attention(
    q: Heads, k: Heads, v: Heads, grid_hw: tuple[int, int]
) -> PatchHeads:
    """softmax(q·q) + softmax(k·k), each scaled as usual (SCLIP, arXiv 2312.01597)."""
    by_query = scaled_dot_product_attention(q[:, :, 1:], q, v)
    return by_query + scaled_dot_product_attention(k[:, :, 1:], k, v)


def neighbour_attention(q: Heads, k: Heads, v: Heads, grid_hw: tuple[int, int]) -> PatchHeads:
    """softmax(k·k + Gaussian window around the patch) (NACLIP, arXiv 2404.08181)."""
    window = _window_with_class_token(grid_hw, k.device, k.dtype)
    return scaled_dot_product_attention(k[:, :, 1:], k, v, attn_mask=window)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _window_with_class_token(
    grid_hw: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "patch token"]:
    """NACLIP's window beside the class token's 0, made once and kept where it is used."""
    window = gaussian_window(grid_hw, NEIGHBOURHOOD_STD_PATCHES)
    return pad(window.to(device, dtype), (1, 0))


def gaussian_window(grid_hw: tuple[int, int], std_patches: float) -> Float[Tensor, "patch patch"]:
    """exp(−d²/2σ²) for every pair of patches at distance d, patches in row-major order."""
    rows, cols = torch.meshgrid(*(torch.arange(n) for n in grid_hw), indexing="ij")
    places = torch.stack([rows.flatten(), cols.flatten()], dim=1).double()
    squared = (places[:, None] - places[None]).square().sum(dim=2)
    return torch.exp(-squared / (2 * std_patches**2)).float()


@dataclass(frozen=True)
class Projection:
    """What the last block does for patches.

    Attributes:
        attend: replaces the attention; gives one row per patch.
        whole: whether the block's input is added to the attention's output and its MLP (with its
            own residual) follows, as in the block itself.
    """

    attend: Attend
    whole: bool


PROJECTIONS: dict[str, Projection] = {
    "plain": Projection(plain_attention, whole=True),
    "maskclip": Projection(value_attention, whole=False),
    "sclip": Projection(self_correlative_attention, whole=True),
    "naclip": Projection(neighbour_attention, whole=False),
}


Block: TypeAlias = ResidualAttentionBlock | CustomResidualAttentionBlock


def queries_keys_values(
    block: Block, tokens: Float[Tensor, "crop token width"]
) -> tuple[Heads, Heads, Heads]:
    """Norm the tokens and split them into heads, as the block's own attention does."""
    attention = block.attn
    if getattr(attention, "logit_scale", None) is not None:
        raise ValueError("CLIP's last block has cosine attention; wanted scaled dot products")
    crops, count, _ = tokens.shape
    joined = linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = joined.view(crops, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    if hasattr(attention, "ln_q"):
        q, k = attention.ln_q(q), attention.ln_k(k)
    return q, k, v


def finish(
    block: Block,
    attended: Float[Tensor, "crop head row head_dim"],
    inputs: Float[Tensor, "crop row width"],
    *,
    whole: bool = True,
) -> Float[Tensor, "crop row width"]:
    """Join the heads and run what the block does after its attention."""
    attention = block.attn
    if getattr(attention, "head_scale", None) is not None:
        attended = attended * attention.head_scale
    joined = attended.transpose(1, 2).flatten(2)
    if hasattr(attention, "ln_inner"):
        joined = attention.ln_inner(joined)
    out: Tensor = attention.out_proj(joined)
    if hasattr(block, "ln_attn"):
        out = block.ln_attn(out)
    out = block.ls_1(out)
    if whole:
        out = inputs + out
        out = out + block.ls_2(block.mlp(block.ln_2(out)))
    return out


def project_tokens(
    visual: VisionTransformer, pixels: Float[Tensor, "crop 3 height width"], projection: Projection
) -> tuple[Float[Tensor, "crop dim"], Float[Tensor, "crop patch dim"]]:
    """Encode crops with an open_clip VisionTransformer.

    Args:
        visual: the image tower; its patches are in row-major order.
        pixels: normalised crops of the tower's input size.
        projection: what the last block does for patches.

    Returns:
        Class tokens, equal to the tower's own output, and projected patch features; neither is
        normalised to unit length.
    """
    tokens, last = _before_last(visual, pixels)
    q, k, v = queries_keys_values(last, tokens)
    cls = finish(last, scaled_dot_product_attention(q[:, :, :1], k, v), tokens[:, :1])
    attended = projection.attend(q, k, v, visual.grid_size)
    patches = finish(last, attended, tokens[:, 1:], whole=projection.whole)
    both = visual.ln_post(torch.cat([cls, patches], dim=1)) @ visual.proj
    return both[:, 0], both[:, 1:]


def values_of(
    visual: VisionTransformer, pixels: Float[Tensor, "crop 3 height width"]
) -> Float[Tensor, "crop patch inner"]:
    """The last block's values of every patch, the heads side by side."""
    tokens, last = _before_last(visual, pixels)
    _, _, v = queries_keys_values(last, tokens)
    return v[:, :, 1:].transpose(1, 2).flatten(2)


def project_values(
    visual: VisionTransformer, values: Float[Tensor, "place inner"]
) -> Float[Tensor, "place dim"]:
    """Values, or weighted means of them, into the joint space, not of unit length.

    What `project_tokens` does behind `value_attention`: the last block's output projection, the
    tower's norm and its projection.
    """
    last = visual.transformer.resblocks[-1]
    heads = values.unflatten(1, (last.attn.num_heads, -1)).transpose(0, 1)[None]
    found: Tensor = visual.ln_post(finish(last, heads, values[None], whole=False)[0]) @ visual.proj
    return found


def _before_last(
    visual: VisionTransformer, pixels: Float[Tensor, "crop 3 height width"]
) -> tuple[Float[Tensor, "crop token inner"], Block]:
    """The tokens that the last block is given, and that block."""
    tokens = visual._embeds(pixels)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    return tokens, last
