"""Segment Anything of any size from a plain dictionary, in the upstream package's own classes."""

from typing import Any

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor


def build_sam_from_config(config: dict[str, Any]) -> Sam:
    """Build a `Sam` with fresh weights.

    Args:
        config: `image_size` and `patch_size` in px, `encoder` (keyword arguments of
            `ImageEncoderViT` but for the sizes), `prompt_embed_dim`, `mask_in_chans`, `decoder`
            (`depth`, `num_heads`, `mlp_dim`, `attention_downsample_rate` of `TwoWayTransformer`),
            `num_multimask_outputs`, `iou_head` (`depth`, `hidden_dim`), `pixel_mean` and
            `pixel_std` of RGB from 0 to 255. This is the content of `sam_config.json`.

    Returns:
        The model, in training mode. It wants square inputs of `image_size`, as upstream does.

    Source: `segment_anything/build_sam.py`, whose sizes are constants there.
    """
    image_size, patch_size = int(config["image_size"]), int(config["patch_size"])
    grid, width = image_size // patch_size, int(config["prompt_embed_dim"])
    encoder = ImageEncoderViT(
        img_size=image_size, patch_size=patch_size, out_chans=width, **config["encoder"]
    )
    prompt_encoder = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(grid, grid),
        input_image_size=(image_size, image_size),
        mask_in_chans=int(config["mask_in_chans"]),
    )
    mask_decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(embedding_dim=width, **config["decoder"]),
        num_multimask_outputs=int(config["num_multimask_outputs"]),
        iou_head_depth=int(config["iou_head"]["depth"]),
        iou_head_hidden_dim=int(config["iou_head"]["hidden_dim"]),
    )
    return Sam(
        encoder,
        prompt_encoder,
        mask_decoder,
        pixel_mean=list(config["pixel_mean"]),
        pixel_std=list(config["pixel_std"]),
    )


@torch.no_grad()
def start_weights(model: Sam) -> None:
    """Set a start from which the prompt's position decides where the decoder looks.

    The mask tokens start as the mean of the prompt tokens (self-attention copies), queries and
    keys of the cross attention are the same projection (a point attends to its own place), and
    learned tokens and image content are small beside the position code.
    """
    encoder, prompts, decoder = model.image_encoder, model.prompt_encoder, model.mask_decoder
    for module in encoder.blocks.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    assert encoder.pos_embed is not None
    encoder.pos_embed.copy_(_sine_positions(encoder.pos_embed))
    encoder.neck[3].weight.fill_(0.5)
    tokens = [decoder.iou_token, decoder.mask_tokens, prompts.not_a_point_embed]
    for token in (*tokens, *prompts.point_embeddings, prompts.no_mask_embed):
        token.weight.mul_(0.1)
    layers = decoder.transformer.layers
    first = layers[0].self_attn
    torch.nn.init.orthogonal_(first.v_proj.weight)
    first.out_proj.weight.copy_(first.v_proj.weight.T)
    crosses = [part for layer in layers for part in
               (layer.cross_attn_token_to_image, layer.cross_attn_image_to_token)]  # fmt: skip
    for attention in (*crosses, decoder.transformer.final_attn_token_to_image):
        torch.nn.init.orthogonal_(attention.q_proj.weight, gain=1.3)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.zeros_(attention.q_proj.bias)
        torch.nn.init.zeros_(attention.k_proj.bias)


def _sine_positions(like: Tensor) -> Tensor:
    """Sines and cosines of row and column at several wavelengths, scaled to 0.3."""
    _, rows, columns, dim = like.shape
    rates = 1.0 / 50.0 ** (torch.arange(dim // 4) / (dim // 4))
    y = torch.arange(rows)[:, None, None] * rates
    x = torch.arange(columns)[None, :, None] * rates
    y, x = y.expand(rows, columns, -1), x.expand(rows, columns, -1)
    return 0.3 * torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=-1)[None]
