"""Two more branches beside the last block's values: the middle blocks, and class tokens of regions.

CorrCLIP (Zhang et al., arXiv 2411.10086) adds them to the patches that an attention from outside
has mixed. Written from the public description of the method; our implementation.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fmbseg.models.clip_projection import Block, finish, queries_keys_values

_MIDDLE = {12: 5, 24: 12, 32: 28}
"""Middle blocks by the number of all blocks, the original's; any other tower leaves out four."""


def middle_blocks(count: int) -> range:
    """Whose outputs are averaged: the blocks before the last but one, by their index.

    Args:
        count: blocks of the tower. With four and fewer the original's rule leaves none.
    """
    many = _MIDDLE.get(count, max(count - 4, 0))
    return range(count - 2 - many, count - 2)


def nearest(
    given: Int64[Tensor, "rows cols"], grid_hw: tuple[int, int]
) -> Int64[Tensor, "new_rows new_cols"]:
    """A map of numbers on another grid over the same image: each place takes the one it lies in."""
    (rows, cols), (height, width) = grid_hw, given.shape
    device = given.device
    down = torch.arange(rows, device=device) * height // rows
    across = torch.arange(cols, device=device) * width // cols
    return given.index_select(0, down).index_select(1, across)


def inside_of(
    placed: Int64[Tensor, "rows cols"],
    numbers: int,
    corners: Sequence[tuple[int, int]],
    crop_grid_hw: tuple[int, int],
) -> Bool[Tensor, "crop {numbers} patch"]:
    """Which patches of each crop lie in which region.

    Args:
        placed: number of the region of every patch of an image, from 0.
        numbers: how many regions there are.
        corners: first row and column of each crop.
        crop_grid_hw: rows and columns of a crop.
    """
    height, width = crop_grid_hw
    crops = [placed[y : y + height, x : x + width].flatten() for y, x in corners]
    return torch.stack(crops)[:, None] == torch.arange(numbers, device=placed.device)[:, None]


def branches_of(
    visual: VisionTransformer,
    pixels: Float[Tensor, "crop 3 height width"],
    inside: Bool[Tensor, "crop region patch"],
) -> Float[Tensor, "crop patch all_inner"]:
    """What `ClipBranches` holds, side by side: values, region tokens, the middle blocks' values.

    A region's token begins as the class token and goes through all blocks; it is shown the class
    token and the patches of its region, and nobody is shown it.

    Args:
        visual: the image tower.
        pixels: normalised crops.
        inside: which patches are in which region; every patch in exactly one.

    Returns:
        Three parts of one width, or two where the tower has no middle blocks.
    """
    tokens = visual._embeds(pixels)
    *blocks, last = visual.transformer.resblocks
    asking = tokens[:, :1].expand(-1, inside.shape[1], -1)
    shown = torch.cat([torch.ones_like(inside[:, :, :1]), inside], dim=2)[:, None]
    middle, wanted = torch.zeros_like(tokens), middle_blocks(len(blocks) + 1)
    for index, block in enumerate(blocks):
        asking = _looked(block, asking, tokens, shown)
        tokens = block(tokens)
        if index in wanted:
            middle = middle + tokens / len(wanted)
    asking = _looked(last, asking, tokens, shown)
    parts = [_values(last, tokens), inside.transpose(1, 2).to(asking.dtype) @ asking]
    if wanted:
        parts.append(_values(last, middle))
    return torch.cat(parts, dim=2)


def project_branches(
    visual: VisionTransformer,
    branches: Float[Tensor, "place all_inner"],
    region_weight: float,
    middle_weight: float,
) -> Float[Tensor, "place dim"]:
    """Into the joint space, not of unit length.

    Args:
        visual: the image tower.
        branches: as `branches_of` gives them, or weighted means of the values.
        region_weight: of the region tokens.
        middle_weight: of the middle blocks, where there are any.
    """
    last = visual.transformer.resblocks[-1]
    main, regions, *middle = branches.split(visual.proj.shape[0], dim=1)

    def of_values(values: Tensor) -> Tensor:
        heads = values.unflatten(1, (last.attn.num_heads, -1)).transpose(0, 1)[None]
        normed: Tensor = visual.ln_post(finish(last, heads, values[None], whole=False)[0])
        return normed

    joined = of_values(main) + region_weight * visual.ln_post(regions)
    for one in middle:
        joined = joined + middle_weight * of_values(one)
    found: Tensor = joined @ visual.proj
    return found


def _values(block: Block, tokens: Float[Tensor, "crop token width"]) -> Tensor:
    """The values of the patches, the heads side by side."""
    found: Tensor = queries_keys_values(block, tokens)[2][:, :, 1:].transpose(1, 2).flatten(2)
    return found


def _looked(
    block: Block,
    asking: Float[Tensor, "crop region width"],
    tokens: Float[Tensor, "crop token width"],
    shown: Bool[Tensor, "crop 1 region token"],
) -> Float[Tensor, "crop region width"]:
    """The block's answer to tokens that look at others but are not looked at."""
    q, _, _ = queries_keys_values(block, asking)
    _, k, v = queries_keys_values(block, tokens)
    return finish(block, scaled_dot_product_attention(q, k, v, attn_mask=shown), asking)
