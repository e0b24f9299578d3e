"""The miniature vision encoder: a timm ViT trained as a masked autoencoder on images alone.

It stands where DINOv2 stands in the method. The encoder sees a random quarter of the patches; a
decoder that cross-attends to them (as CrossMAE's does) predicts pixels and oriented gradients of
some hidden ones. No label is read.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fmbseg.miniature.world import SIZE_PX
from studies.miniature.pool import load_pool
from studies.miniature.training import late_cosine, run_training
from studies.miniature.vision_scores import (
    ARCHITECTURE,
    DIM,
    MEAN,
    MODEL_ARGS,
    PATCH_PX,
    STD,
    build_encoder,
    normalised,
    positions,
)

DECODER_DIM, DECODER_DEPTH, DECODER_HEADS = 128, 2, 4
VISIBLE_SHARE, PREDICTED_SHARE = 0.25, 0.25
BATCH, LEARNING_RATE, STEPS = 48, 1.0e-3, 5000
USE_PX = 192  # image size at use: more patches than in training measure better

CONFIG: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "num_classes": 0,
    "num_features": DIM,
    "model_args": MODEL_ARGS,
    "pretrained_cfg": {
        "tag": "fmbseg_miniature", "custom_load": False, "num_classes": 0,
        "input_size": [3, SIZE_PX, SIZE_PX], "test_input_size": [3, USE_PX, USE_PX],
        "fixed_input_size": False,
        "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center",
        "mean": list(MEAN), "std": list(STD), "pool_size": None,
        "first_conv": "patch_embed.proj", "classifier": "head", "license": "mit",
    },
}  # fmt: skip


class CrossBlock(nn.Module):
    """Pre-norm cross-attention of hidden patches to visible ones, then an MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(
        self, x: Float[Tensor, "image hidden dim"], context: Float[Tensor, "image visible dim"]
    ) -> Float[Tensor, "image hidden dim"]:
        """Mix what the visible patches say into the hidden ones."""
        query = self.query(self.norm_query(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(context).unflatten(-1, (2, self.heads, -1))
        key, value = both.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return cast(Tensor, x + self.mlp(self.norm_mlp(x)))


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; calling it on a batch gives the loss of predicting hidden patches."""

    def __init__(self, encoder: VisionTransformer) -> None:
        super().__init__()
        self.encoder = encoder
        self.narrow = nn.Linear(DIM, DECODER_DIM)
        self.register_buffer("positions", positions(DECODER_DIM), persistent=False)
        self.hidden = nn.Parameter(torch.zeros(DECODER_DIM))
        blocks = (CrossBlock(DECODER_DIM, DECODER_HEADS) for _ in range(DECODER_DEPTH))
        self.decoder = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(DECODER_DIM)
        self.predict = nn.Linear(DECODER_DIM, _TARGET_DIM)

    def forward(
        self,
        images: Float[Tensor, "image 3 height width"],
        order: Int64[Tensor, "image patch"],
    ) -> Float[Tensor, ""]:
        """Mean squared error on some hidden patches.

        Args:
            images: normalised with `MEAN` and `STD`.
            order: a permutation of the patches; the first quarter is visible, the next predicted.

        Returns:
            The loss, averaged over patches and over the two kinds of target.
        """
        patches = order.shape[1]
        visible = order[:, : round(patches * VISIBLE_SHARE)]
        hidden = order[:, visible.shape[1] :][:, : round(patches * PREDICTED_SHARE)]
        encoder = self.encoder
        assert encoder.pos_embed is not None
        assert encoder.cls_token is not None
        pixels = _gather(_patchify(images), visible)
        weight = encoder.patch_embed.proj.weight.flatten(1)
        tokens = F.linear(pixels, weight, encoder.patch_embed.proj.bias)
        tokens = tokens + encoder.pos_embed[0, 1:][visible]
        first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(images), -1, -1)
        tokens = torch.cat([first, tokens], 1)
        for block in encoder.blocks:
            tokens = block(tokens)
        context = self.narrow(encoder.norm(tokens))
        guess = self.hidden + cast(Tensor, self.positions)[hidden]
        for block in self.decoder:
            guess = block(guess, context)
        wanted = _gather(_targets(images), hidden)
        squares = (self.predict(self.norm(guess)) - wanted).square()
        pixel_loss, gradient_loss = squares[..., :_PIXELS].mean(), squares[..., _PIXELS:].mean()
        return cast(Tensor, 0.5 * pixel_loss + 0.5 * gradient_loss)


_PIXELS = 3 * PATCH_PX * PATCH_PX
_CELLS = 4
_TARGET_DIM = _PIXELS + 5 * _CELLS


def _patchify(images: Tensor, patch_px: int = PATCH_PX) -> Float[Tensor, "image patch value"]:
    """Values of each patch in the order channel, row, column (that of a patch embedding)."""
    return F.pixel_unshuffle(images, patch_px).flatten(2).transpose(1, 2)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


@torch.no_grad()
def _targets(images: Tensor) -> Float[Tensor, "image patch value"]:
    """Pixels normalised within their patch, then moments of gradient orientation in 2x2 cells.

    The moments are the length g of the gradient and g times cos 2a, sin 2a, cos 4a, sin 4a of its
    direction a: a smooth, cheap histogram of oriented gradients. A floor keeps sensor noise in
    flat patches from becoming a target.
    """
    pixels = _patchify(images)
    spread = (pixels.var(-1, keepdim=True) + 0.01).sqrt()
    pixels = (pixels - pixels.mean(-1, keepdim=True)) / spread
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    x = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    y = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    length = (x.square() + y.square() + 1e-6).sqrt()
    cosine, sine = (x.square() - y.square()) / length, 2 * x * y / length
    moments = [length, cosine, sine]
    moments += [(cosine.square() - sine.square()) / length, 2 * cosine * sine / length]
    cells = _patchify(F.avg_pool2d(torch.cat(moments, 1), PATCH_PX // 2), 2)
    strength = F.avg_pool2d(length, PATCH_PX).flatten(2).transpose(1, 2)
    return torch.cat([pixels, 2 * cells / (strength + 0.05)], -1)


def _augment(images: Tensor, draw: np.random.Generator) -> Float[Tensor, "image 3 height width"]:
    """Random crops (20 to 100 % of the area) at full size, mirrored half the time, recoloured."""
    count = len(images)
    scale = np.sqrt(draw.uniform(0.2, 1.0, count))
    stretch = np.exp(draw.uniform(-0.15, 0.15, count))
    width, height = np.minimum(scale * stretch, 1), np.minimum(scale / stretch, 1)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = width * draw.choice((-1.0, 1.0), count)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = draw.uniform(-1, 1, count) * (1 - width)
    theta[:, 1, 2] = draw.uniform(-1, 1, count) * (1 - height)
    grid = F.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=False)
    crops = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    gain = draw.uniform(0.75, 1.25, (count, 1, 1, 1)) * draw.uniform(0.9, 1.1, (count, 3, 1, 1))
    shift = draw.uniform(-0.3, 0.3, (count, 1, 1, 1))
    return crops * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()


def export(encoder: VisionTransformer, weights: Path) -> None:
    """Write a timm `local-dir:` folder: `config.json` and fp16 `model.safetensors`."""
    weights.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().half().contiguous() for k, v in encoder.state_dict().items()}
    save_file(state, weights / "model.tmp")
    (weights / "model.tmp").chmod(0o644)
    os.replace(weights / "model.tmp", weights / "model.safetensors")
    (weights / "config.tmp").write_text(json.dumps(CONFIG, indent=2) + "\n")
    os.replace(weights / "config.tmp", weights / "config.json")


def train_vision(
    folder: Path,
    weights: Path,
    *,
    seed: int = 0,
    steps: int = STEPS,
    pool_images: int = 16000,
    cache: Path = Path("work/pool"),
    compiled: bool = True,
) -> dict[str, float]:
    """Train the encoder on unlabelled images and export it, going on where a cut run stopped.

    Args:
        folder: for the checkpoint and the log.
        weights: the timm folder to write, also every 200 steps on the way.
        seed: of weights, data order and masks.
        steps: batches of 48 images.
        pool_images: how many images of the `pretrain` split to draw from.
        cache: where drawn images are kept.
        compiled: run the step through `torch.compile` (wants a C++ compiler).

    Returns:
        `loss` (mean squared error on hidden patches of 96 images not trained on).
    """
    torch.manual_seed(seed)
    images = load_pool(cache, 0, pool_images, "pretrain").images
    held = min(96, pool_images // 4)
    model = MaskedAutoencoder(build_encoder())
    faster = torch.compile(model) if compiled else model

    def loss_of(batch: np.ndarray, draw: np.random.Generator, augment: bool) -> Tensor:
        pixels = normalised(batch)
        pixels = _augment(pixels, draw) if augment else pixels
        patches = (SIZE_PX // PATCH_PX) ** 2
        order = draw.permuted(np.tile(np.arange(patches), (len(batch), 1)), axis=1)
        return cast(Tensor, (faster if augment else model)(pixels, torch.from_numpy(order)))

    def step(index: int, draw: np.random.Generator) -> Tensor:
        chosen = np.sort(draw.choice(pool_images - held, BATCH, replace=pool_images < 4 * BATCH))
        return loss_of(images[chosen], draw, augment=True)

    def evaluate(done: int) -> dict[str, float]:
        export(model.encoder, weights)
        with torch.no_grad():
            held_out = loss_of(images[-held:].copy(), np.random.default_rng(seed), augment=False)
        return {"loss_held_out": held_out.item()}

    run_training(
        model, step, steps=steps, seed=seed, folder=folder, learning_rate=LEARNING_RATE,
        evaluate=evaluate, evaluate_every=200, schedule=late_cosine,
    )  # fmt: skip
    return {"loss": evaluate(steps)["loss_held_out"]}
