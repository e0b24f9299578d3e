"""SAM's mask decoder, run so that nothing is computed twice or for masks that nobody wants.

It calls the layers of `segment_anything`'s `MaskDecoder` and `TwoWayTransformer`, with the same
answers as their own `forward`. What differs is the order:

- what does not depend on the prompt is computed once an image: the first layer's keys, values and
  queries on the image's side;
- a mask's predicted IoU comes from a token of its own, so it is known before any mask is made, and
  only the prompts of which a mask is wanted are upscaled;
- a few prompts go through at once, as many as fit into a processor's cache;
- the predicted IoU of some prompts is the only thing an accelerator is waited for: which masks are
  wanted is settled on the CPU.

Sums come in another order than `segment_anything`'s, which moves the last digits of scores and
logits, no more. On an accelerator the attention is torch's fused one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fmbseg.models.protocols import SamPrediction, Wanted

Projected = Float[Tensor, "_batch _token inner"]
"""Queries, keys or values of all heads side by side; an image's may be shared by all prompts."""
_CACHE_BYTES = 2**21
"""An image's tokens, once a prompt, that go through the layers at once on the CPU."""
_FEWEST_AT_ONCE = 4
"""Prompts, however large the image's tokens: a product wants some rows."""
_PROMPTS_AT_ONCE = 64
"""At most; on an accelerator always."""


@dataclass(frozen=True)
class ImageSide:
    """What the decoder knows of an image before there is a prompt.

    Attributes:
        tokens: the encoder's features with the embedding of "no mask", row by row.
        placed: the same with their positions added.
        position: of each token.
        keys: of the first layer's attention from the prompt to the image.
        values: of the same.
        queries: of the first layer's attention from the image to the prompt.
        grid_hw: rows and columns of tokens.
    """

    tokens: Float[Tensor, "1 token channel"]
    placed: Float[Tensor, "1 token channel"]
    position: Float[Tensor, "1 token channel"]
    keys: Projected
    values: Projected
    queries: Projected
    grid_hw: tuple[int, int]


def all_wanted(predicted_iou: Float[Tensor, "prompt mask"]) -> Bool[Tensor, "prompt mask"]:
    """Every mask."""
    return torch.ones_like(predicted_iou, dtype=torch.bool)


class PromptDecoder:
    """Answers prompts on an image that `ImageSide` describes."""

    def __init__(self, decoder: MaskDecoder) -> None:
        """Take the layers of a decoder; their weights are not copied."""
        self._decoder = decoder
        self._layers: list[TwoWayAttentionBlock] = list(decoder.transformer.layers)
        self._output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])

    def image_side(
        self,
        features: Float[Tensor, "1 channel rows cols"],
        position: Float[Tensor, "1 channel rows cols"],
        no_mask: Float[Tensor, " channel"],
    ) -> ImageSide:
        """Compute what all prompts of an image share.

        Args:
            features: of the image encoder.
            position: the prompt encoder's dense positional encoding.
            no_mask: the embedding that stands for "no mask was given".
        """
        first = self._layers[0]
        tokens = (features + no_mask.view(1, -1, 1, 1)).flatten(2).permute(0, 2, 1)
        places = position.flatten(2).permute(0, 2, 1)
        placed = tokens + places
        to_image, to_prompt = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        return ImageSide(
            tokens, placed, places,
            keys=to_image.k_proj(placed),
            values=to_image.v_proj(tokens),
            queries=to_prompt.q_proj(placed),
            grid_hw=(features.shape[2], features.shape[3]),
        )  # fmt: skip

    def decode(
        self,
        image: ImageSide,
        prompts: Float[Tensor, "prompt point channel"],
        wanted: Wanted,
    ) -> SamPrediction:
        """Predicted IoU of three masks a prompt, and the logits of those that are wanted.

        Args:
            image: what the prompts are about.
            prompts: the prompt encoder's sparse embeddings.
            wanted: decides by the predicted IoU; asked for some prompts at a time.
        """
        upscaling = _Upscaling(self._decoder, image)
        scores, chosen = [], []
        for some in prompts.split(self._at_once(image)):
            tokens = torch.cat([self._output_tokens.expand(len(some), -1, -1), some], dim=1)
            answered, seen = self._transform(image, tokens)
            predicted = self._decoder.iou_prediction_head(answered[:, 0])[:, 1:].cpu()
            keep = wanted(predicted)
            upscaling.add(answered, seen, keep)
            scores.append(predicted)
            chosen.append(keep)
        return SamPrediction(upscaling.logits(), torch.cat(scores), torch.cat(chosen))

    def _at_once(self, image: ImageSide) -> int:
        if image.tokens.device.type != "cpu":
            return _PROMPTS_AT_ONCE
        fitting = _CACHE_BYTES // (image.tokens.numel() * image.tokens.element_size())
        return min(max(fitting, _FEWEST_AT_ONCE), _PROMPTS_AT_ONCE)

    def _transform(
        self, image: ImageSide, tokens: Float[Tensor, "prompt token channel"]
    ) -> tuple[Float[Tensor, "prompt token channel"], Float[Tensor, "prompt pixel channel"]]:
        """The two-way transformer: tokens of the prompt and of the image after all layers."""
        transformer = self._decoder.transformer
        asking, keys, placed = tokens, image.tokens, image.placed
        for index, layer in enumerate(self._layers):
            to_image, to_prompt = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            if layer.skip_first_layer_pe:
                asking = layer.self_attn(q=asking, k=asking, v=asking)
            else:
                own = asking + tokens
                asking = asking + layer.self_attn(q=own, k=own, v=asking)
            asking = layer.norm1(asking)
            first = index == 0
            looked = _attention(
                to_image,
                to_image.q_proj(asking + tokens),
                image.keys if first else to_image.k_proj(placed),
                image.values if first else to_image.v_proj(keys),
            )
            asking = layer.norm2(asking + looked)
            asking = layer.norm3(asking + layer.mlp(asking))
            told = _attention(
                to_prompt,
                image.queries if first else to_prompt.q_proj(placed),
                to_prompt.k_proj(asking + tokens),
                to_prompt.v_proj(asking),
            )
            keys = layer.norm4(told.add_(keys))
            placed = keys + image.position
        last = transformer.final_attn_token_to_image
        looked = _attention(
            last,
            last.q_proj(asking + tokens),
            last.k_proj(placed),
            last.v_proj(keys),
        )
        return transformer.norm_final_attn(asking + looked), keys


class _Upscaling:
    """The logits of wanted masks."""

    def __init__(self, decoder: MaskDecoder, image: ImageSide) -> None:
        self._layers = list(decoder.output_upscaling)
        self._mlps = list(decoder.output_hypernetworks_mlps)[1:]
        self._grid_hw = image.grid_hw
        self._made = [image.tokens.new_zeros((0, *(4 * side for side in image.grid_hw)))]

    def add(
        self,
        answered: Float[Tensor, "prompt token channel"],
        seen: Float[Tensor, "prompt pixel channel"],
        keep: Bool[Tensor, "prompt mask"],
    ) -> None:
        """Upscale the prompts of which a mask is wanted; `keep` lies on the CPU."""
        chosen = keep.any(dim=1).nonzero()[:, 0]
        if len(chosen) == 0:
            return
        if len(chosen) < len(keep):
            rows = chosen.to(seen.device, non_blocking=True)
            answered, seen, keep = answered[rows], seen[rows], keep[chosen]
        widen, norm, *others = self._layers
        pixels = _normed(norm, widen(seen.transpose(1, 2).unflatten(2, self._grid_hw)))
        for layer in others:
            pixels = layer(pixels)
        weights = torch.stack([mlp(answered[:, 2 + i]) for i, mlp in enumerate(self._mlps)], dim=1)
        logits = (weights @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        places = keep.nonzero().to(logits.device, non_blocking=True)
        self._made.append(logits[places[:, 0], places[:, 1]])

    def logits(self) -> Float[Tensor, "wanted low_height low_width"]:
        """Of all that were added, in order."""
        return torch.cat(self._made)


def _normed(
    norm: LayerNorm2d, pixels: Float[Tensor, "prompt channel rows cols"]
) -> Float[Tensor, "prompt channel rows cols"]:
    """SAM's norm over the channels, in place and with the mean subtracted once."""
    pixels = pixels.sub_(pixels.mean(1, keepdim=True))
    variance = pixels.pow(2).mean(1, keepdim=True)
    pixels = pixels.div_(torch.sqrt(variance + norm.eps))
    return pixels.mul_(norm.weight[:, None, None]).add_(norm.bias[:, None, None])


def _attention(
    attention: Attention, q: Projected, k: Projected, v: Projected
) -> Float[Tensor, "_batch _token channel"]:
    """Attention, and the output projection; one side may be shared by all prompts."""
    batch, size = max(len(q), len(k)), q.shape[2] // attention.num_heads
    q, k, v = (one.expand(batch, -1, -1) for one in (q, k, v))
    if q.device.type == "cpu":
        heads = zip(*(one.split(size, dim=2) for one in (q, k, v)), strict=True)
        mixed = torch.cat([_one_head(*head) for head in heads], dim=2)
    else:
        q, k, v = (one.unflatten(2, (-1, size)).transpose(1, 2) for one in (q, k, v))
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    joined: Tensor = attention.out_proj(mixed)
    return joined


def _one_head(q: Projected, k: Projected, v: Projected) -> Projected:
    """Attention of one head, read where it lies among the others.

    Few keys lie along the first of the product's axes, since torch takes the softmax of an axis
    shorter than a register slowly where it is the last one.
    """
    root = math.sqrt(q.shape[2])
    if k.shape[1] < q.shape[1]:
        across = torch.softmax(torch.bmm(k, q.transpose(1, 2)).div_(root), dim=1)
        return torch.bmm(across.transpose(1, 2), v)
    weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)).div_(root), dim=2)
    return torch.bmm(weights, v)
