"""The attention of the last block of SAM's encoder, some rows at a time."""

import torch
from jaxtyping import Float
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor

from fmbseg.models.protocols import SamAttention

Heads = Float[Tensor, "head rows cols head_dim"]


def encode_attending(
    encoder: ImageEncoderViT, pixels: Float[Tensor, "1 3 side side"], grid_hw: tuple[int, int]
) -> tuple[Float[Tensor, "1 channel rows cols"], SamAttention]:
    """SAM's features of an image as its encoder makes them, and what its last block attends to.

    The blocks are called one by one and nothing is hooked into them, so that threads can share a
    model.

    Args:
        encoder: SAM's.
        pixels: preprocessed and padded.
        grid_hw: rows and columns of patches that are no padding.

    Raises:
        ValueError: the last block attends within windows.
    """
    *blocks, last = encoder.blocks
    if last.window_size > 0:
        raise ValueError(
            f"SAM's encoder: found a last block that attends within windows of {last.window_size} "
            "patches, wanted one that sees the whole image, as in vit_b, vit_l and vit_h"
        )
    tokens = encoder.patch_embed(pixels)
    if encoder.pos_embed is not None:
        tokens = tokens + encoder.pos_embed
    for block in blocks:
        tokens = block(tokens)
    features: Tensor = encoder.neck(last(tokens).permute(0, 3, 1, 2))
    return features.float(), _attention(last.attn, last.norm1(tokens)[0], grid_hw)


def _attention(
    layer: Attention, tokens: Float[Tensor, "side side width"], grid_hw: tuple[int, int]
) -> SamAttention:
    """The layer's own attention before its values are summed.

    Args:
        layer: with or without relative positions.
        tokens: normed, padding included: it takes part in the softmax.
        grid_hw: rows and columns that are no padding.
    """
    parts = layer.qkv(tokens).float().unflatten(2, (3, layer.num_heads, -1))
    q, k, v = parts.permute(2, 3, 0, 1, 4)
    (rows, cols), side = grid_hw, tokens.shape[0]
    asking = q[:, :rows, :cols].flatten(1, 2)
    keys = k.flatten(1, 2).transpose(1, 2) * layer.scale
    values = v[:, :rows, :cols].permute(1, 2, 0, 3).flatten(2).flatten(0, 1)
    down = across = None
    if layer.use_rel_pos:
        down = get_rel_pos(side, side, layer.rel_pos_h).float()
        across = get_rel_pos(side, side, layer.rel_pos_w).float()

    def weights(some: slice) -> Tensor:
        part = asking[:, some]
        scores = (part @ keys).unflatten(2, (side, side))
        if down is not None and across is not None:
            places = torch.arange(rows * cols, device=part.device)[some]
            by_row = torch.einsum("hpc,prc->hpr", part, down[places // cols])
            by_col = torch.einsum("hpc,prc->hpr", part, across[places % cols])
            scores = scores + by_row[:, :, :, None] + by_col[:, :, None, :]
        shares: Tensor = scores.flatten(2).softmax(2).mean(0).unflatten(1, (side, side))
        return shares[:, :rows, :cols].flatten(1)

    return SamAttention(grid_hw, values, weights)
