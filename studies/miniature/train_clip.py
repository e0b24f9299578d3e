"""Trains the miniature CLIP: crops of the world against captions, in open_clip's own classes.

A caption speaks of the whole crop. The world's labels serve only to frame the crops and to write
the captions. Two terms, both contrastive with equal captions as shared positives: the class token
(weight 1), and a pooling of the patch features weighted by their similarity to the text (weight
`PATCH_WEIGHT`), which real CLIP lacks. It lets so small a model learn things in minutes, and it
ends after `PATCH_SHARE` of the steps: the rest trains the class token alone, as real CLIP is
trained, and the patches become as mediocre as in life. For the first `MASKED_SHARE` of the steps
half the patches are left out, as in FLIP (arXiv 2212.00794), which halves the cost of a step.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import PatchDropout
from safetensors.torch import save
from torch import Tensor

from studies.miniature.clip_crops import captioned_crops
from studies.miniature.clip_scores import (
    MEAN,
    SETTINGS,
    STD,
    evaluate_clip,
    standardised,
    two_features,
    unit_pixels,
)
from studies.miniature.pool import Pool, load_pool
from studies.miniature.tokenizer import CONTEXT_TOKENS, load_tokenizer, write_merges
from studies.miniature.training import run_training

BATCH_CROPS = 64
PATCH_WEIGHT = 0.3
PATCH_SHARE = 0.3
MASKED_SHARE = 0.65
_VISION = {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32}
_TEXT = {"context_length": CONTEXT_TOKENS, "width": 128, "heads": 4, "layers": 2}


def train_clip(
    folder: Path,
    weights: Path,
    *,
    seed: int = 0,
    steps: int = 2000,
    pool_images: int = 16000,
    cache: Path = Path("work/pool"),
    evaluate_every: int = 250,
    score_images: int = 100,
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
        score_images: images of the val split that every evaluation takes.

    Returns:
        The scores of `evaluate_clip` at every setting.
    """
    torch.set_num_threads(1)
    config = clip_config(write_merges(weights / "bpe.txt.gz"))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    pool = load_pool(cache, seed=0, count=pool_images, split="pretrain")

    def evaluate(done: int) -> dict[str, float]:
        export_clip(model, config, weights)
        return evaluate_clip(weights, images=score_images, settings=SETTINGS[:1])

    run_training(
        model,
        contrastive_step(model, pool, load_tokenizer(weights), steps),
        steps=steps,
        seed=seed,
        folder=folder,
        learning_rate=1.0e-3,
        warmup_steps=min(200, steps),
        save_every=100,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
    )
    return evaluate_clip(weights, images=score_images)


def clip_config(vocab_size: int) -> dict[str, dict[str, object]]:
    """`open_clip_config.json` of the miniature: model and preprocessing."""
    text = {**_TEXT, "vocab_size": vocab_size}
    return {
        "model_cfg": {"embed_dim": 128, "vision_cfg": dict(_VISION), "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"},
    }


def export_clip(
    model: torch.nn.Module, config: dict[str, dict[str, object]], weights: Path
) -> None:
    """Write the configuration and the weights in half precision."""
    weights.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    temporary = weights / "open_clip_model.tmp"
    temporary.write_bytes(save(half))
    temporary.replace(weights / "open_clip_model.safetensors")
    temporary.write_text(json.dumps(config, indent=2) + "\n")
    temporary.replace(weights / "open_clip_config.json")


def contrastive_step(
    model: open_clip.CLIP, pool: Pool, tokenizer: SimpleTokenizer, steps: int
) -> Callable[[int, np.random.Generator], Tensor]:
    """The loss of one batch as `run_training` wants it."""

    def step(index: int, rng: np.random.Generator) -> Tensor:
        images, captions = captioned_crops(pool, rng, BATCH_CROPS)
        different, which = np.unique(captions, return_inverse=True)
        texts = encode_captions(model, tokenizer(different.tolist()))
        masked = index < MASKED_SHARE * steps
        model.visual.patch_dropout = PatchDropout(0.5) if masked else torch.nn.Identity()
        token, dense = two_features(model.visual, jittered(images, rng))
        scale = model.logit_scale.exp().clamp(max=100)
        target = torch.from_numpy(which)
        loss = shared_positive_loss(scale * F.normalize(token, dim=-1) @ texts.T, target)
        if index >= PATCH_SHARE * steps:
            return loss
        similarity = F.normalize(dense["maskclip"], dim=-1) @ texts.T
        pooled = ((10 * similarity).softmax(dim=1) * similarity).sum(dim=1)
        return loss + PATCH_WEIGHT * shared_positive_loss(scale * pooled, target)

    return step


def encode_captions(
    model: open_clip.CLIP, tokens: Int64[Tensor, "caption token"]
) -> Float[Tensor, "caption dim"]:
    """`model.encode_text(tokens, normalize=True)` without the padding that all captions share."""
    length = int((tokens != 0).sum(dim=1).max())
    hidden = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    end = hidden[torch.arange(len(tokens)), tokens.argmax(dim=1)]
    return F.normalize(model.ln_final(end) @ model.text_projection, dim=-1)


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


def jittered(
    images: UInt8[np.ndarray, "crop height width 3"], rng: np.random.Generator
) -> Float[Tensor, "crop 3 height width"]:
    """Normalise for the model; half the crops mirrored, light and colour slightly changed."""
    count, pixels = len(images), unit_pixels(images)
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    pixels[mirrored] = pixels[mirrored].flip(-1)
    gain = rng.uniform(0.85, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1))
    shift = rng.uniform(-0.06, 0.06, (count, 1, 1, 1))
    pixels = pixels * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()
    return standardised(pixels.clamp(0, 1))
