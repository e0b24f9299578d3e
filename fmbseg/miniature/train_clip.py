"""Trains the miniature CLIP: crops of the world against captions, in open_clip's own classes.

A caption speaks of the whole crop. The world's labels serve only to frame the crops and to write
the captions. Two terms, both contrastive with equal captions as shared positives: the class token
(weight 1), and a pooling of the patch features weighted by their similarity to the text (weight
`PATCH_WEIGHT`), which real CLIP lacks: it lets so small a model learn things in minutes and makes
its patches better than life. For the first `MASKED_SHARE` of the steps half the patches are left
out, as in FLIP (arXiv 2212.00794), which halves the cost of a step.
"""

import json
from collections.abc import Callable, Sequence
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

from fmbseg.miniature.pool import Pool, load_pool
from fmbseg.miniature.tokenizer import (
    CONTEXT_TOKENS,
    CROP_PX,
    any_box,
    captioned_crops,
    load_tokenizer,
    thing_box,
    write_merges,
)
from fmbseg.miniature.training import run_training
from fmbseg.miniature.world import CLASS_NAMES, SEEN_CLASS_NAMES, STUFF, WorldImage, generate

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH_CROPS = 64
PATCH_WEIGHT = 0.3
MASKED_SHARE = 0.65
PROJECTIONS = ("maskclip", "sclip", "naclip")
NACLIP_STD_PATCHES = 2.0
SETTINGS = ((160, 32), (128, 16), (160, 16), (192, 32), (256, 32))
_VISION = {"image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32}
_TEXT = {"context_length": CONTEXT_TOKENS, "width": 128, "heads": 4, "layers": 2}


def train_clip(
    folder: Path,
    weights: Path,
    *,
    seed: int = 0,
    steps: int = 1500,
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
        similarity = F.normalize(dense["maskclip"], dim=-1) @ texts.T
        pooled = ((10 * similarity).softmax(dim=1) * similarity).sum(dim=1)
        loss = shared_positive_loss(scale * F.normalize(token, dim=-1) @ texts.T, target)
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


def two_features(
    visual: open_clip.transformer.VisionTransformer,
    pixels: Float[Tensor, "crop 3 height width"],
    projections: tuple[str, ...] = ("maskclip",),
) -> tuple[Float[Tensor, "crop dim"], dict[str, Float[Tensor, "crop patch dim"]]]:
    """The class token, and the patches as dense projections of the last block show them.

    All in the space shared with text, not normalised. The class token equals `visual(pixels)`;
    the patches take neither the residual nor the MLP of the last block.
    """
    tokens: Tensor = visual._embeds(pixels)
    for block in visual.transformer.resblocks[:-1]:
        tokens = block(tokens)
    last = visual.transformer.resblocks[-1]
    normed = last.ln_1(tokens)
    token = tokens[:, :1] + last.attn(normed[:, :1], normed, normed, need_weights=False)[0]
    token = (token + last.mlp(last.ln_2(token)))[:, 0]
    query, key, value = (
        F.linear(normed[:, 1:], weight, bias).unflatten(-1, (last.attn.num_heads, -1))
        for weight, bias in zip(
            last.attn.in_proj_weight.chunk(3), last.attn.in_proj_bias.chunk(3), strict=True
        )
    )
    dense = {}
    for projection in projections:
        mixed = value
        if projection != "maskclip":
            attention = _attend(projection, query.transpose(1, 2), key.transpose(1, 2))
            mixed = (attention @ value.transpose(1, 2)).transpose(1, 2)
        dense[projection] = visual.ln_post(last.attn.out_proj(mixed.flatten(2))) @ visual.proj
    return visual.ln_post(token) @ visual.proj, dense


def _attend(projection: str, query: Tensor, key: Tensor) -> Tensor:
    """Attention `[crop, head, patch, patch]` of SCLIP (q.q and k.k) or NACLIP (k.k, near)."""
    scale = query.shape[-1] ** -0.5
    keys = scale * key @ key.transpose(-1, -2)
    if projection == "sclip":
        queries = scale * query @ query.transpose(-1, -2)
        return torch.softmax(queries, -1) + torch.softmax(keys, -1)
    side = int(key.shape[-2] ** 0.5)
    at = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    near = torch.exp(-torch.cdist(at, at).square() / (2 * NACLIP_STD_PATCHES**2))
    return torch.softmax(keys + near, -1)


def jittered(
    images: UInt8[np.ndarray, "crop height width 3"], rng: np.random.Generator
) -> Float[Tensor, "crop 3 height width"]:
    """Normalise for the model; half the crops mirrored, light and colour slightly changed."""
    count, pixels = len(images), _unit(images)
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    pixels[mirrored] = pixels[mirrored].flip(-1)
    gain = rng.uniform(0.85, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1))
    shift = rng.uniform(-0.06, 0.06, (count, 1, 1, 1))
    pixels = pixels * torch.from_numpy(gain).float() + torch.from_numpy(shift).float()
    return _standard(pixels.clamp(0, 1))


def normalised(
    images: UInt8[np.ndarray, "image height width 3"],
) -> Float[Tensor, "image 3 height width"]:
    """Images as the model wants them."""
    return _standard(_unit(images))


def _unit(images: UInt8[np.ndarray, "image height width 3"]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _standard(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def evaluate_clip(
    weights: Path, *, images: int = 100, settings: Sequence[tuple[int, int]] = SETTINGS
) -> dict[str, float]:
    """Score on images of the val split that hold seen things; no other split is ever used.

    Args:
        weights: a folder that `train_clip` wrote.
        images: how many; the same ones each time.
        settings: pairs of (short side of the upsampled image, stride of the 64 px window), px.

    Returns:
        `top1_thing`, `top1_stuff`: class token over all 16 names, on crops of one thing or of
        one stuff. `f1_<short side>_<stride>_<votes>`: presence of the 14 seen names where more
        than so many windows vote. `presence_f1`, `_precision`, `_recall`, `short_side_px`,
        `stride_px`, `votes_more_than`: at the best of them. Per projection and setting,
        `miou_...`: of the argmax over the 14 names; `masks_...`: the share of true masks of at
        least 64 px that their mean patch labels rightly among the names present.
    """
    model = open_clip.create_model(f"local-dir:{weights}").eval()
    tokenizer = load_tokenizer(weights)
    prompts = [f'a photo of a "{name}"' for name in CLASS_NAMES]
    world = list(generate(0, images, "val"))
    scores: dict[str, float] = {}
    with torch.no_grad():
        texts = model.encode_text(tokenizer(prompts), normalize=True)
        scores |= _token_scores(model, world, texts)
        texts = texts[: len(SEEN_CLASS_NAMES)]
        for short_side_px, stride_px in settings:
            votes, maps = _windows(model, world, texts, short_side_px, stride_px)
            setting = f"{short_side_px}_{stride_px}"
            for more_than in (0, 1, 2, 3, 5):
                found = _presence(world, votes > more_than)
                scores[f"f1_{setting}_{more_than}"] = found["presence_f1"]
                if found["presence_f1"] > scores.get("presence_f1", -1.0):
                    scores |= found | {"votes_more_than": more_than}
                    scores |= {"short_side_px": short_side_px, "stride_px": stride_px}
            for projection, similarity in maps.items():
                dense, masks = _dense_scores(world, similarity)
                scores[f"miou_{projection}_{setting}"] = dense
                scores[f"masks_{projection}_{setting}"] = masks
    return scores


def _token_scores(
    model: open_clip.CLIP, world: list[WorldImage], texts: Float[Tensor, "name dim"]
) -> dict[str, float]:
    """Accuracy of the class token on one crop per thing and eight stuff-only crops an image."""
    rng = np.random.default_rng(0)
    crops, truth = [], []
    for item in world:
        for i, thing in enumerate(item.things, start=1):
            left, top, side = thing_box(item.instances * (item.instances == i), rng)
            crops.append(item.image[top : top + side, left : left + side])
            truth.append(CLASS_NAMES.index(thing.name))
        for _ in range(8):
            left, top, side = any_box(rng)
            where = np.s_[top : top + side, left : left + side]
            labels = item.labels[where]
            if labels.max() < len(STUFF) and (labels == labels[0, 0]).mean() > 0.8:
                crops.append(item.image[where])
                truth.append(int(labels[0, 0]))
    pixels = torch.cat([_resized(crop, CROP_PX) for crop in crops])
    guess = (model.encode_image(pixels) @ texts.T).argmax(dim=1).numpy()
    right, is_stuff = guess == truth, np.array(truth) < len(STUFF)
    return {
        "top1_thing": float(right[~is_stuff].mean()),
        "top1_stuff": float(right[is_stuff].mean()),
    }


def _resized(image: UInt8[np.ndarray, "height width 3"], side_px: int) -> Tensor:
    return F.interpolate(normalised(image[None]), (side_px, side_px), mode="bicubic")


def _windows(
    model: open_clip.CLIP,
    world: list[WorldImage],
    texts: Float[Tensor, "name dim"],
    short_side_px: int,
    stride_px: int,
) -> tuple[np.ndarray, dict[str, Float[Tensor, "image name row column"]]]:
    """Votes `[image, name]` of the class tokens, and stitched maps of patch similarity."""
    grid, window = short_side_px // 8, CROP_PX // 8
    starts = range(0, short_side_px - CROP_PX + 1, stride_px)
    votes = np.zeros((len(world), len(texts)), int)
    maps = {p: torch.zeros(len(world), len(texts), grid, grid) for p in PROJECTIONS}
    for i, item in enumerate(world):
        big = _resized(item.image, short_side_px)
        corners = [(y, x) for y in starts for x in starts]
        crops = torch.cat([big[..., y : y + CROP_PX, x : x + CROP_PX] for y, x in corners])
        token, dense = two_features(model.visual, crops, PROJECTIONS)
        np.add.at(votes[i], (token @ texts.T).argmax(1).numpy(), 1)
        covered = torch.zeros(grid, grid)
        for projection, patches in dense.items():
            similarity = (F.normalize(patches, dim=-1) @ texts.T).transpose(1, 2)
            for (y, x), part in zip(corners, similarity, strict=True):
                where = np.s_[..., y // 8 : y // 8 + window, x // 8 : x // 8 + window]
                maps[projection][i][where] += part.reshape(-1, window, window)
                covered[where] += projection == PROJECTIONS[0]
        for projection in PROJECTIONS:
            maps[projection][i] /= covered
    return votes, maps


def _presence(world: list[WorldImage], present: np.ndarray) -> dict[str, float]:
    true = np.array([np.isin(range(present.shape[1]), item.labels) for item in world])
    precision = float((present & true).sum() / max(present.sum(), 1))
    recall = float((present & true).sum() / true.sum())
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"presence_f1": f1, "presence_precision": precision, "presence_recall": recall}


def _dense_scores(
    world: list[WorldImage], similarity: Float[Tensor, "image name row column"]
) -> tuple[float, float]:
    """Mean IoU of the argmax over the seen names, and the share of true masks labelled rightly."""
    names = similarity.shape[1]
    confusion, right, masks = np.zeros((names, names), int), 0, 0
    for item, rows in zip(world, similarity, strict=True):
        full = F.interpolate(rows[None], item.labels.shape, mode="bilinear")[0].numpy()
        guess = full.argmax(0)
        confusion += np.bincount(
            item.labels.ravel().astype(int) * names + guess.ravel(), minlength=names**2
        ).reshape(names, names)
        present = np.unique(item.labels)
        parts = item.labels.astype(int) * 10 + item.instances
        for part in np.unique(parts):
            if (parts == part).sum() >= 64:
                mean = full[present][:, parts == part].mean(axis=1)
                masks, right = masks + 1, right + int(present[mean.argmax()] == part // 10)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return float((confusion.diagonal() / np.maximum(union, 1)).mean()), right / masks
