"""The weights from which the miniature's SAM starts its training."""

import torch
from segment_anything.modeling import Sam
from torch import Tensor


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
