"""The miniature vision encoder: a timm ViT trained as a masked autoencoder on images alone.

It stands where DINOv2 stands in the method. The encoder sees a random quarter of the patches; a
decoder that cross-attends to them (as CrossMAE's does) predicts pixels and oriented gradients of
some hidden ones. Labels are used by `evaluate_vision` only, for the model card.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from fmbseg.miniature.pool import load_pool
from fmbseg.miniature.training import run_training
from fmbseg.miniature.world import SEEN_CLASS_NAMES, SEEN_THINGS, SIZE_PX, generate

PATCH_PX, DIM, DEPTH, HEADS = 8, 160, 4, 5
DECODER_DIM, DECODER_DEPTH, DECODER_HEADS = 128, 2, 4
VISIBLE_SHARE, PREDICTED_SHARE = 0.25, 0.25
# The shipped weights: 1,000 steps of a 3,000-step schedule, then resumed with `steps=1400`, so
# the rate fell at once. An undisturbed run of 1,400 steps is near, not equal.
BATCH, LEARNING_RATE, STEPS = 48, 1.0e-3, 1400
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

ARCHITECTURE = "vit_small_patch14_dinov2"
MODEL_ARGS: dict[str, Any] = {
    "img_size": SIZE_PX, "patch_size": PATCH_PX, "embed_dim": DIM, "depth": DEPTH,
    "num_heads": HEADS, "init_values": 0.1, "dynamic_img_size": True,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "num_classes": 0,
    "num_features": DIM,
    "model_args": MODEL_ARGS,
    "pretrained_cfg": {
        "tag": "fmbseg_miniature", "custom_load": False, "num_classes": 0,
        "input_size": [3, SIZE_PX, SIZE_PX], "fixed_input_size": False,
        "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center",
        "mean": list(MEAN), "std": list(STD), "pool_size": None,
        "first_conv": "patch_embed.proj", "classifier": "head", "license": "mit",
    },
}  # fmt: skip


def build_encoder() -> VisionTransformer:
    """The untrained encoder; its position table starts as 2-D sines and cosines."""
    encoder = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=0, **MODEL_ARGS)
    encoder = cast(VisionTransformer, encoder)
    assert encoder.pos_embed is not None
    with torch.no_grad():
        encoder.pos_embed[0, 1:] = _positions(DIM) * 0.5
    return encoder


def _positions(dim: int) -> Float[Tensor, "patch dim"]:
    side = SIZE_PX // PATCH_PX
    table = build_sincos2d_pos_embed([side, side], dim=dim, interleave_sin_cos=True)
    return cast(Tensor, table)


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
        self.register_buffer("positions", _positions(DECODER_DIM), persistent=False)
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


def _normalise(images: np.ndarray) -> Float[Tensor, "image 3 height width"]:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


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
        pixels = _normalise(batch)
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
        evaluate=evaluate, evaluate_every=200,
    )  # fmt: skip
    return {"loss": evaluate(steps)["loss_held_out"]}


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
    wanted = torch.stack([_patch_labels(item.labels, side, classes) for item in train])
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
        pixels = _normalise(images[start : start + 20].copy())
        pixels = F.interpolate(pixels, size=input_px, mode="bilinear", align_corners=False)
        tokens = cast(VisionTransformer, encoder).forward_features(pixels)
        parts.append(tokens[:, cast(VisionTransformer, encoder).num_prefix_tokens :])
    return torch.cat(parts)


def _patch_labels(labels: np.ndarray, side: int, classes: int) -> Int64[Tensor, " patch"]:
    """The class that covers most of each cell of a side by side grid."""
    shares = F.one_hot(torch.from_numpy(labels).long(), classes).permute(2, 0, 1).float()
    return F.adaptive_avg_pool2d(shares, side).argmax(0).flatten()
