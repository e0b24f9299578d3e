"""Train the small SAM on class-agnostic masks of the miniature world, from scratch on one core."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import Tensor

from fmbseg.miniature.world import Split, generate
from fmbseg.models.sam_architecture import build_sam_from_config
from studies.miniature.pool import Pool, load_pool
from studies.miniature.sam_losses import (
    ImageMasks,
    affinity_loss,
    boxes_around,
    choose_masks,
    find_masks,
    iou_loss,
    mask_loss,
    points_inside,
)
from studies.miniature.sam_start import start_weights
from studies.miniature.training import run_training

CONFIG: dict[str, Any] = {
    "image_size": 128,
    "patch_size": 8,
    "encoder": {"embed_dim": 128, "depth": 4, "num_heads": 4, "mlp_ratio": 4.0, "window_size": 0},
    "prompt_embed_dim": 64,
    "mask_in_chans": 16,
    "decoder": {"depth": 2, "num_heads": 2, "mlp_dim": 256, "attention_downsample_rate": 2},
    "num_multimask_outputs": 3,
    "iou_head": {"depth": 3, "hidden_dim": 64},
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
}
IMAGES_PER_STEP, SINGLE_POINTS, OTHER_PROMPTS = 8, 6, 3
STEPS = 2200
LEARNING_RATE = 1.0e-3


def train_sam(
    folder: Path,
    weights: Path,
    *,
    seed: int = 0,
    steps: int = STEPS,
    pool_images: int = 16000,
    cache: Path = Path("work/pool"),
    evaluate_every: int = 500,
) -> dict[str, float]:
    """Train the small SAM, go on where a cut run stopped, and export after each evaluation.

    Args:
        folder: for the checkpoint and the log.
        weights: folder that gets `sam_config.json` and `sam.safetensors` (fp16).
        seed: of the world, the start and the prompts.
        steps: optimiser steps of 8 images and 9 prompts an image.
        pool_images: how many images of the `pretrain` split are used.
        cache: where drawn images are kept.
        evaluate_every: steps between two evaluations.

    Returns:
        The scores of `evaluate_sam` on the validation split.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    pool = load_pool(cache, seed, pool_images, "pretrain")
    model = build_sam_from_config(CONFIG)
    start_weights(model)
    scores: dict[str, float] = {}

    def step(index: int, rng: np.random.Generator) -> Tensor:
        return _loss(model, pool, rng, index / steps)

    def evaluate(done: int) -> dict[str, float]:
        export_sam(model, weights)
        scores.update(evaluate_sam(weights, images=100 if done == steps else 40, seed=seed))
        return scores

    run_training(
        model, step, steps=steps, seed=seed, folder=folder, learning_rate=LEARNING_RATE,
        evaluate=evaluate, evaluate_every=evaluate_every,
    )  # fmt: skip
    if not scores:  # the checkpoint was of the last step already
        evaluate(steps)
    return scores


def decode(
    model: Sam, embedding: Float[Tensor, "image dim row column"], tokens: Tensor, dense: Tensor
) -> tuple[Tensor, Tensor]:
    """Do `MaskDecoder.predict_masks` for several images at once.

    Args:
        model: the SAM.
        embedding: of every image.
        tokens: prompt tokens, prompts of one image in a row, `image * prompt, token, dim`.
        dense: the dense prompt embedding, `image * prompt, dim, row, column`.

    Returns:
        Mask logits `image * prompt, 4, height, width` and predicted IoU `image * prompt, 4`.
    """
    decoder = model.mask_decoder
    each = len(tokens) // len(embedding)
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    queries = torch.cat([output[None].expand(len(tokens), -1, -1), tokens], dim=1)
    source = embedding.repeat_interleave(each, dim=0) + dense
    places = model.prompt_encoder.get_dense_pe().expand(len(tokens), -1, -1, -1)
    read, keys = decoder.transformer(source, places, queries)
    upscaled = decoder.output_upscaling(keys.transpose(1, 2).reshape(source.shape))
    filters = torch.stack(
        [mlp(read[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1
    )
    logits = torch.einsum("pmc,pchw->pmhw", filters, upscaled)
    return logits, decoder.iou_prediction_head(read[:, 0])


def _loss(model: Sam, pool: Pool, rng: np.random.Generator, progress: float) -> Tensor:
    """Loss of one step: points for all, and five points (3 of 4 steps) or boxes for some."""
    indices = rng.integers(len(pool.images), size=IMAGES_PER_STEP)
    images = np.stack([pool.images[i] for i in indices]).astype(np.float32)
    masks = [find_masks(pool.labels[i], pool.instances[i]) for i in indices]
    for i in range(IMAGES_PER_STEP):
        if rng.random() < 0.5:
            images[i] = images[i][:, ::-1]
            masks[i] = ImageMasks(masks[i].ids[:, ::-1], masks[i].is_thing, masks[i].area_px)
        if rng.random() < 0.25:
            images[i] = images[i] * rng.uniform(0.6, 1.2, 3) + rng.uniform(-25, 25, 3)
    pixels = torch.from_numpy(images.clip(0, 255)).float().permute(0, 3, 1, 2)
    embedding = model.image_encoder((pixels - model.pixel_mean) / model.pixel_std)
    shares = _shares(masks)
    loss = affinity_loss(embedding, F.avg_pool2d(shares, model.image_encoder.img_size // 16))
    quarter = F.avg_pool2d(shares, 2)
    use_boxes = rng.random() < 0.25
    for count, kind in ((SINGLE_POINTS, "point"), (OTHER_PROMPTS, "box" if use_boxes else "five")):
        chosen = [choose_masks(m, count, rng) for m in masks]
        pairs = list(zip(masks, chosen, strict=True))
        points, boxes = None, None
        if kind == "box":
            boxes = torch.from_numpy(np.concatenate([boxes_around(*p, rng) for p in pairs])).float()
        else:
            many = 1 if kind == "point" else 5
            drawn = [points_inside(*p, many, rng, noisy=many > 1) for p in pairs]
            coords = torch.from_numpy(np.concatenate(drawn)).float()
            points = (coords, torch.ones(coords.shape[:2]))
        tokens, dense = model.prompt_encoder(points, boxes, None)
        logits, predicted = decode(model, embedding, tokens, dense)
        targets = torch.cat([q[torch.from_numpy(c)] for q, c in zip(quarter, chosen, strict=True)])
        each = mask_loss(logits, targets)
        several = each[:, 1:]
        best = several.min(1).values if progress > 0.3 else several.mean(1)
        one = each[:, 0].mean() + 0.3 * best.mean() + 0.7 * several.mean()
        loss = loss + (one / 2 + iou_loss(predicted, logits, targets)) * count / SINGLE_POINTS
    return loss


def _shares(masks: list[ImageMasks]) -> Float[Tensor, "image mask height width"]:
    """One-hot masks of all images, padded with empty ones to the same number."""
    most = max(len(m.area_px) for m in masks)
    ids = torch.from_numpy(np.stack([m.ids for m in masks]))
    return F.one_hot(ids, most).permute(0, 3, 1, 2).float()


def export_sam(model: Sam, weights: Path) -> None:
    """Write `sam_config.json` and `sam.safetensors` (fp16), each under a temporary name first."""
    weights.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().half().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, weights / "sam.safetensors.tmp")
    (weights / "sam_config.json.tmp").write_text(json.dumps(CONFIG, indent=2) + "\n")
    for name in ("sam_config.json", "sam.safetensors"):
        os.replace(weights / f"{name}.tmp", weights / name)


def load_sam(weights: Path) -> Sam:
    """Read what `export_sam` wrote, as float32 in evaluation mode."""
    model = build_sam_from_config(json.loads((weights / "sam_config.json").read_text()))
    state = {k: v.float() for k, v in load_file(weights / "sam.safetensors").items()}
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def evaluate_sam(
    weights: Path, *, split: Split = "val", images: int = 100, seed: int = 0
) -> dict[str, float]:
    """Score exported weights on images with seen things.

    Args:
        weights: folder with `sam_config.json` and `sam.safetensors`.
        split: of the world.
        images: how many, from the first on.
        seed: of the world and of the points.

    Returns:
        Mean IoU at full size. `point` / `point_best` / `point_things` / `point_stuff`: top-scored
        of three masks (the best of three for `_best`) from a pixel drawn uniformly over the image;
        `mask_...`: from a pixel drawn uniformly in each mask; `five_...`: five points in each
        mask; `box`: its box; `iou_error`: mean error of the predicted IoU.
    """
    model = load_sam(weights)
    rng = np.random.default_rng([seed, 91])
    found: dict[str, list[Tensor]] = {}
    for item in generate(seed, images, split):
        masks = find_masks(item.labels, item.instances.astype(np.uint8))
        real = np.flatnonzero(masks.area_px >= 24)
        pixels = rng.integers(0, 128, (8, 2))
        picture = torch.from_numpy(item.image).permute(2, 0, 1)[None].float()
        embedding = model.image_encoder(model.preprocess(picture))
        of_pixels = masks.ids[pixels[:, 1], pixels[:, 0]]
        once = points_inside(masks, real, 1, rng, noisy=False)
        five = points_inside(masks, real, 5, rng, noisy=False)
        boxes = boxes_around(masks, real, rng)
        for name, mask, prompt in (
            ("point", of_pixels, pixels[:, None]), ("mask", real, once),
            ("five", real, five), ("box", real, boxes),
        ):  # fmt: skip
            where = torch.from_numpy(prompt).float()
            points = None if name == "box" else (where, torch.ones(where.shape[:2]))
            tokens, dense = model.prompt_encoder(points, where if name == "box" else None, None)
            logits, predicted = decode(model, embedding, tokens, dense)
            wanted = torch.from_numpy(masks.ids)[None] == torch.from_numpy(mask)[:, None, None]
            size_hw = wanted.shape[-2:]
            full = model.postprocess_masks(logits[:, 1:], size_hw, size_hw) > 0
            union = (full | wanted[:, None]).flatten(2).sum(-1)
            iou = (full & wanted[:, None]).flatten(2).sum(-1) / union
            top = predicted[:, 1:].argmax(1, keepdim=True)
            score, thing = iou.gather(1, top)[:, 0], torch.from_numpy(masks.is_thing[mask])
            for key, values in (
                (name, score), (f"{name}_best", iou.max(1).values),
                (f"{name}_things", score[thing]), (f"{name}_stuff", score[~thing]),
                ("iou_error", (predicted[:, 1:].gather(1, top)[:, 0] - score).abs()),
            ):  # fmt: skip
                found.setdefault(key, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}
