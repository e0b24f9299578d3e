"""A small CLIP in open_clip's local-dir format, and slow references of what is asked of it."""

import json
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image as PilImage
from safetensors.torch import save_file

from fmbseg.models.build import build_clip

SMALL: dict[str, Any] = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8,
    },
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
    },
}  # fmt: skip
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


def write_small_clip(path, layers=3):
    """Weights far from their start, so that no part of the model is close to an identity."""
    sizes = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "layers": layers}}
    config = {
        "model_cfg": sizes,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic"},
    }
    (path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(3)
    model = open_clip.CLIP(**sizes)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return path


def small(folder, **options):
    return build_clip(f"local-dir:{folder}", **options)


def random_image(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 4, 0), 4, 1)[:height, :width].copy()


def upstream_pixels(model, image):
    """The crop as open_clip's own transform prepares it."""
    config = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    return open_clip.transform.image_transform_v2(config, is_train=False)(
        PilImage.fromarray(image)
    )[None]


def upstream_tokens(model, pixels):
    """open_clip's own class token and patch tokens, taken to the joint space."""
    visual = model.visual
    visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = visual(pixels)
        visual.output_tokens = False
        return pooled, tokens @ visual.proj


def slow_patches(model, pixels, projection):
    """The last block written out: one head, one patch, one token at a time."""
    visual = model.visual
    with torch.no_grad():
        x = visual._embeds(pixels)
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        block = visual.transformer.resblocks[-1]
        x, attention = x[0], block.attn
        width, heads = x.shape[1], attention.num_heads
        size = width // heads
        q, k, v = (block.ln_1(x) @ attention.in_proj_weight.T + attention.in_proj_bias).split(
            width, 1
        )
        cols = visual.grid_size[1]
        rows = []
        for i in range(1, len(x)):
            parts = []
            for h in range(heads):
                s = slice(h * size, (h + 1) * size)
                if projection == "maskclip":
                    parts.append(v[i, s])
                    continue
                qq = torch.stack([q[i, s] @ q[j, s] for j in range(len(x))]) / size**0.5
                kk = torch.stack([k[i, s] @ k[j, s] for j in range(len(x))]) / size**0.5
                if projection == "sclip":
                    weights = qq.softmax(0) + kk.softmax(0)
                else:
                    for j in range(1, len(x)):
                        dy = (i - 1) // cols - (j - 1) // cols
                        dx = (i - 1) % cols - (j - 1) % cols
                        kk[j] += np.exp(-(dy**2 + dx**2) / (2 * 5.0**2))
                    weights = kk.softmax(0)
                parts.append(sum(weights[j] * v[j, s] for j in range(len(x))))
            out = attention.out_proj(torch.cat(parts))
            if projection == "sclip":
                out = x[i] + out
                out = out + block.mlp(block.ln_2(out))
            rows.append(visual.ln_post(out) @ visual.proj)
        return torch.stack(rows)[None]
