"""Scores of the miniature CLIP on the val split, and the features that they rest on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from fmbseg.miniature.world import CLASS_NAMES, SEEN_CLASS_NAMES, STUFF, WorldImage, generate
from studies.miniature.clip_crops import CROP_PX, any_box, thing_box
from studies.miniature.tokenizer import load_tokenizer

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROJECTIONS = ("maskclip", "sclip", "naclip")
NACLIP_STD_PATCHES = 2.0
SETTINGS = ((160, 32), (128, 16), (160, 16), (192, 32), (256, 32))


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


def normalised(
    images: UInt8[np.ndarray, "image height width 3"],
) -> Float[Tensor, "image 3 height width"]:
    """Images as the model wants them."""
    return standardised(unit_pixels(images))


def _resized(image: UInt8[np.ndarray, "height width 3"], side_px: int) -> Tensor:
    return F.interpolate(normalised(image[None]), (side_px, side_px), mode="bicubic")


def unit_pixels(images: UInt8[np.ndarray, "image height width 3"]) -> Tensor:
    """Images from 0 to 1, channels first."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def standardised(pixels: Tensor) -> Tensor:
    """Pixels from 0 to 1 with CLIP's mean and spread taken out."""
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
