"""The encoder of the miniature vision model, and a probe of its features with true labels.

Labels are used by `evaluate_vision` only, for the model card.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from fmbseg.miniature.world import SEEN_CLASS_NAMES, SEEN_THINGS, SIZE_PX, generate

PATCH_PX, DIM, DEPTH, HEADS = 8, 160, 4, 5
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
ARCHITECTURE = "vit_small_patch14_dinov2"
MODEL_ARGS: dict[str, Any] = {
    "img_size": SIZE_PX, "patch_size": PATCH_PX, "embed_dim": DIM, "depth": DEPTH,
    "num_heads": HEADS, "init_values": 0.1, "dynamic_img_size": True,
}  # fmt: skip


def build_encoder() -> VisionTransformer:
    """The untrained encoder; its position table starts as 2-D sines and cosines."""
    encoder = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0, **MODEL_ARGS)
    encoder = cast(VisionTransformer, encoder)
    assert encoder.pos_embed is not None
    with torch.no_grad():
        encoder.pos_embed[0, 1:] = positions(DIM) * 0.5
    return encoder


def positions(dim: int) -> Float[Tensor, "patch dim"]:
    """Sines and cosines of each patch's row and column."""
    side = SIZE_PX // PATCH_PX
    table = build_sincos2d_pos_embed([side, side], dim=dim, interleave_sin_cos=True)
    return cast(Tensor, table)


class Probe(nn.Module):
    """One transformer block and a linear map on frozen features: the shape of the alignment."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.block = Block(dim, num_heads=4, qkv_bias=True)
        self.classify = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, x: Float[Tensor, "image patch dim"]) -> Float[Tensor, "image patch class"]:
        """Class scores of every patch."""
        return cast(Tensor, self.classify(self.block(x)))


def evaluate_vision(
    weights: Path | None,
    *,
    images: int = 300,
    seed: int = 0,
    input_px: int = SIZE_PX,
    epochs: int = 40,
    learning_rate: float = 3.0e-3,
) -> dict[str, float]:
    """Ceiling of the features: a `Probe` trained on TRUE labels. For the model card only.

    Args:
        weights: a timm folder; None for an untrained encoder.
        images: images of the `train` split to train the probe on; 100 of `val` score it.
        seed: of the world, the probe and its order.
        input_px: side the images are scaled to before encoding.
        epochs: passes over the images in batches of 5.
        learning_rate: peak of a cosine schedule for AdamW.

    Returns:
        `miou`, `miou_stuff`, `miou_things` over the classes seen, 0 to 1.
    """
    torch.manual_seed(seed)
    encoder: nn.Module = build_encoder()
    if weights is not None:
        encoder = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=0)
    classes = len(SEEN_CLASS_NAMES)
    train, val = list(generate(seed, images, "train")), list(generate(seed, 100, "val"))
    features = _encode(encoder.eval(), np.stack([item.image for item in train]), input_px)
    side = input_px // PATCH_PX
    wanted = torch.stack([patch_labels(item.labels, side, classes) for item in train])
    probe = Probe(features.shape[-1], classes)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=epochs * -(-images // 5), pct_start=0.1
    )
    for _ in range(epochs):
        for chosen in torch.randperm(images).split(5):
            loss = F.cross_entropy(probe(features[chosen]).flatten(0, 1), wanted[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        tokens = _encode(encoder, np.stack([item.image for item in val]), input_px)
        scores = torch.cat([probe(part) for part in tokens.split(10)])
    scores = scores.transpose(1, 2).unflatten(2, (side, side))
    guess = F.interpolate(scores, size=SIZE_PX, mode="bilinear", align_corners=False).argmax(1)
    truth = torch.from_numpy(np.stack([item.labels for item in val])).long()
    pairs = torch.bincount((truth * classes + guess).flatten(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes).double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    iou = (confusion.diag() / union).numpy()
    stuff = len(SEEN_CLASS_NAMES) - len(SEEN_THINGS)
    parts = {"miou": iou, "miou_stuff": iou[:stuff], "miou_things": iou[stuff:]}
    return {name: float(np.nanmean(values)) for name, values in parts.items()}


@torch.no_grad()
def _encode(
    encoder: nn.Module, images: np.ndarray, input_px: int
) -> Float[Tensor, "image patch dim"]:
    parts = []
    for start in range(0, len(images), 20):
        pixels = normalised(images[start : start + 20].copy())
        pixels = F.interpolate(pixels, size=input_px, mode="bilinear", align_corners=False)
        tokens = cast(VisionTransformer, encoder).forward_features(pixels)
        parts.append(tokens[:, cast(VisionTransformer, encoder).num_prefix_tokens :])
    return torch.cat(parts)


def patch_labels(labels: np.ndarray, side: int, classes: int) -> Int64[Tensor, " patch"]:
    """The class that covers most of each cell of a side by side grid."""
    shares = F.one_hot(torch.from_numpy(labels).long(), classes).permute(2, 0, 1).float()
    return F.adaptive_avg_pool2d(shares, side).argmax(0).flatten()


def normalised(images: np.ndarray) -> Float[Tensor, "image 3 height width"]:
    """Images as the encoder wants them."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
