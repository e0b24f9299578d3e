"""Segment Anything of any size from a plain dictionary, in the upstream package's own classes."""

from typing import Any

from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)


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
