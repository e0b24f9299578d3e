"""Trains the miniature CLIP: crops of the world against captions, in open_clip's own classes.

A caption speaks of the whole crop. The world's labels serve only to frame the crops and to write
the captions. Two terms, both contrastive with equal captions as shared positives: the class token
(weight 1), and a pooling of the patch features weighted by their similarity to the text (weight
`PATCH_WEIGHT`), without which so small a CLIP says little about places.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor

from fmbseg.miniature.clip_crops import captioned_crops
from fmbseg.miniature.clip_scores import evaluate_clip
from fmbseg.miniature.pool import Pool, load_pool
from fmbseg.miniature.tokenizer import CONTEXT_TOKENS, load_tokenizer, write_merges
from fmbseg.miniature.training import run_training

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH_CROPS = 64
PATCH_WEIGHT = 0.5
_VISION = {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32}
_TEXT = {"context_length": CONTEXT_TOKENS, "width": 128, "heads": 4, "layers": 2}


def train_clip(
    folder: Path,
    weights: Path,
    *,
    seed: int = 0,
    steps: int = 3000,
    pool_images: int = 16000,
    cache: Path = Path("work/pool"),
    evaluate_every: int = 500,
) -> dict[str, float]:
    """Train, score on the val split and export; an interrupted run goes on where it was.

    Uses one CPU thread. Every evaluation exports, so that `weights` is usable from the first on.

    Args:
        folder: for `resume.pt` and `log.jsonl`.
        weights: the folder to write, for `open_clip.create_model("local-dir:<weights>")`.
        seed: of the weights, the crops and the captions.
        steps: batches of 64 crops.
        pool_images: images of the world that the crops are cut from (seed 0, `pretrain`).
        cache: where drawn images are kept.
        evaluate_every: steps between two evaluations.

    Returns:
        The last scores of `evaluate_clip`.
    """
    torch.set_num_threads(1)
    config = clip_config(write_merges(weights / "bpe.txt.gz"))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    pool = load_pool(cache, seed=0, count=pool_images, split="pretrain")
    scores: dict[str, float] = {}

    def evaluate(done: int) -> dict[str, float]:
        export_clip(model, config, weights)
        last = done == steps
        scores.update(evaluate_clip(weights, images=100 if last else 40, all_settings=last))
        return scores

    run_training(
        model,
        contrastive_step(model, pool, load_tokenizer(weights)),
        steps=steps,
        seed=seed,
        folder=folder,
        learning_rate=1.0e-3,
        warmup_steps=min(200, steps),
        save_every=100,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
    )
    return scores


def clip_config(vocab_size: int) -> dict[str, dict[str, object]]:
    """`open_clip_config.json` of the miniature: model and preprocessing."""
    text = {**_TEXT, "vocab_size": vocab_size}
    return {
        "model_cfg": {"embed_dim": 128, "vision_cfg": dict(_VISION), "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"},
    }


def export_clip(model: torch.nn.Module, config: dict[str, dict[str, object]], weights: Path) -> None:
    """Write the configuration and the weights in half precision."""
    weights.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    temporary = weights / "open_clip_model.tmp"
    save_file(half, temporary)
    os.replace(temporary, weights / "open_clip_model.safetensors")
    temporary.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(temporary, weights / "open_clip_config.json")


def contrastive_step(
    model: open_clip.CLIP, pool: Pool, tokenizer: SimpleTokenizer, crops: int = BATCH_CROPS
) -> Callable[[int, np.random.Generator], Tensor]:
    """The loss of one batch as `run_training` wants it."""

    def step(index: int, rng: np.random.Generator) -> Tensor:
        images, captions = captioned_crops(pool, rng, crops)
        different, which = np.unique(captions, return_inverse=True)
        texts = model.encode_text(tokenizer(different.tolist()), normalize=True)
        token, patches = two_features(model.visual, jittered(images, rng))
        scale = model.logit_scale.exp().clamp(max=100)
        target = torch.from_numpy(which)
        similarity = F.normalize(patches, dim=-1) @ texts.T
        pooled = ((10 * similarity).softmax(dim=1) * similarity).sum(dim=1)
        loss = shared_positive_loss(scale * F.normalize(token, dim=-1) @ texts.T, target)
        return loss + PATCH_WEIGHT * shared_positive_loss(scale * pooled, target)

    return step


def shared_positive_loss(logits: Float[Tensor, "crop caption"], target: Tensor) -> Tensor:
    """CLIP's symmetric loss when several crops of the batch bear the same caption.

    Args:
        logits: scaled similarity of each crop to each different caption.
        target: the caption of each crop.

    Returns:
        What the crop-by-crop matrix with soft targets, uniform over equal captions, would give.
    """
    counts = torch.bincount(target, minlength=logits.shape[1]).to(logits.dtype)
    of_crops = F.cross_entropy(logits + counts.log(), target)
    of_captions = -logits.log_softmax(dim=0).gather(1, target[:, None]).mean()
    return (of_crops + counts.log()[target].mean() + of_captions) / 2


def two_features(
    visual: open_clip.transformer.VisionTransformer, pixels: Float[Tensor, "crop 3 height width"]
) -> tuple[Float[Tensor, "crop dim"], Float[Tensor, "crop patch dim"]]:
    """The class token and, by the value path of the last block (MaskCLIP), the patches.

    Both in the space shared with text, not normalised. The class token equals `visual(pixels)`;
    the last block is spared for the patches, which do not need it.
    """
    tokens = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    last = visual.transformer.resblocks[-1]
    normed = last.ln_1(tokens)
    token = tokens[:, :1] + last.attn(normed[:, :1], normed, normed, need_weights=False)[0]
    token = (token + last.mlp(last.ln_2(token)))[:, 0]
    width = normed.shape[-1]
    values = F.linear(
        normed[:, 1:], last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :]
    )
    values = last.attn.out_proj(values)
    return visual.ln_post(token) @ visual.proj, visual.ln_post(values) @ visual.proj


def jittered(
    images: UInt8[np.ndarray, "crop height width 3"], rng: np.random.Generator
) -> Float[Tensor, "crop 3 height width"]:
    """Normalise for the model; half the crops mirrored, light and colour slightly changed."""
    count = len(images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    pixels[mirrored] = pixels[mirrored].flip(-1)
    gain = rng.uniform(0.85, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1))
    shift = rng.uniform(-0.06, 0.06, (count, 1, 1, 1))
    pixels = pixels * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return (pixels.clamp(0, 1) - mean) / std
