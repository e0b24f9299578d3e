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
        count: blocks of the tower, at least 2. The original has no rule for towers of four blocks
            and fewer; of these it is one block.
    """
    many = _MIDDLE.get(count, max(count - 4, 1))
    return range(max(count - 2 - many, 0), max(count - 2, 1))


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
    """What `ClipBranches` holds, side by side: values, the middle blocks' values, region tokens.

    A region's token begins as the class token and goes through all blocks; it is shown the class
    token and the patches of its region, and nobody is shown it.

    Args:
        visual: the image tower.
        pixels: normalised crops.
        inside: which patches are in which region; every patch in exactly one.
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
    values = [
        queries_keys_values(last, one)[2][:, :, 1:].transpose(1, 2).flatten(2)
        for one in (tokens, middle)
    ]
    return torch.cat([*values, inside.transpose(1, 2).to(asking.dtype) @ asking], dim=2)


def project_branches(
    visual: VisionTransformer,
    branches: Float[Tensor, "place all_inner"],
    middle_weight: float,
    region_weight: float,
) -> Float[Tensor, "place dim"]:
    """Into the joint space, not of unit length.

    Args:
        visual: the image tower.
        branches: as `branches_of` gives them, or weighted means of the two kinds of values.
        middle_weight: of the middle blocks.
        region_weight: of the region tokens.
    """
    last = visual.transformer.resblocks[-1]
    *values, regions = branches.chunk(3, dim=1)
    main, middle = (
        finish(last, one.unflatten(1, (last.attn.num_heads, -1)).transpose(0, 1)[None], one[None],
               whole=False)[0]
        for one in values
    )  # fmt: skip
    normed = [visual.ln_post(one) for one in (main, middle, regions)]
    joined = normed[0] + middle_weight * normed[1] + region_weight * normed[2]
    found: Tensor = joined @ visual.proj
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
