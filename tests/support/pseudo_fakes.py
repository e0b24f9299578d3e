"""Small real models: CLIP knows colours, SAM knows regions of one colour. No weights."""

from collections.abc import Sequence

import numpy as np
import torch

from fmbseg.models.protocols import DenseClip, SamEmbedding
from fmbseg.pseudo.settings import PseudoMasksParams
from tests.support.whole_sam import Masks, WholeSam

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
}
NAMES = tuple(COLOURS)
OPTIONS = PseudoMasksParams(
    clip_short_side_px="auto",
    clip_stride_fraction=0.5,
    clip_batch_crops=32,
    points_together=True,
    presence_votes=1,
    prompt_points=5,
    points_per_side=6,
    min_predicted_iou=0.6,
    min_stability=0.6,
    stability_offset=1.0,
    nms_iou=0.7,
    min_area_fraction=0.002,
    max_area_fraction=0.95,
)


def unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values.float() - 127.5, dim=-1)


class ColourClip:
    """A feature is the direction of the mean colour from grey; crops are 3 x 3 overlapping."""

    dim = 3

    def __init__(self, patch_px: int = 8) -> None:
        self.patch_px = patch_px
        self.calls = 0

    def encode_dense(self, image: np.ndarray) -> DenseClip:
        self.calls += 1
        height, width = image.shape[:2]
        rows, cols = max(1, height // self.patch_px), max(1, width // self.patch_px)
        pixels = torch.tensor(image).float().permute(2, 0, 1)[None]
        patches = torch.nn.functional.adaptive_avg_pool2d(pixels, (rows, cols))[0].permute(1, 2, 0)
        crops = []
        for top in (0, height // 4, height // 2):
            for left in (0, width // 4, width // 2):
                crop = image[top : top + max(1, height // 2), left : left + max(1, width // 2)]
                crops.append(torch.tensor(crop).float().mean(dim=(0, 1)))
        return DenseClip(unit(patches), unit(torch.stack(crops)))

    def encode_text(self, names: Sequence[str]) -> torch.Tensor:
        return unit(torch.tensor([COLOURS[name] for name in names]))


class ColourSam(WholeSam):
    """A mask is every pixel whose colour is near the mean colour at the prompts; half size."""

    grid_side = 8

    def __init__(self, fail_after: int | None = None) -> None:
        self.embeds = 0
        self.upscaled = 0
        self.fail_after = fail_after

    def embed(self, image: np.ndarray) -> SamEmbedding:
        if self.fail_after is not None and self.embeds >= self.fail_after:
            raise KeyboardInterrupt
        self.embeds += 1
        height, width = image.shape[:2]
        features = torch.tensor(image).float().permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(features, (max(1, height // 2), max(1, width // 2)))
        return SamEmbedding((height, width), small)

    def all_masks(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> Masks:
        features = embedding.encoded[0]
        _, rows, cols = features.shape
        height, width = embedding.image_hw
        logits, quality = [], []
        for prompt in points_xy_px:
            x = np.clip((prompt[:, 0] * cols / width).astype(int), 0, cols - 1)
            y = np.clip((prompt[:, 1] * rows / height).astype(int), 0, rows - 1)
            seeds = features[:, y, x]
            distance = (features - seeds.mean(dim=1)[:, None, None]).norm(dim=0)
            spread = seeds.std(dim=1, correction=0).mean()
            logits.append(torch.stack([(reach - distance) / 8 for reach in (20.0, 60.0, 500.0)]))
            quality.append(torch.tensor([0.8, 0.95, 0.3]) - spread / 500)
        return torch.stack(logits), torch.stack(quality)

    def upscale(self, embedding: SamEmbedding, logits: torch.Tensor) -> torch.Tensor:
        self.upscaled += len(logits)
        return torch.nn.functional.interpolate(
            logits[:, None], embedding.image_hw, mode="bilinear", align_corners=False
        )[:, 0]


def painted(*names: str, size_hw: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Equal vertical bands of colours with a little noise."""
    height, width = size_hw
    image = np.zeros((height, width, 3))
    for index, name in enumerate(names):
        left, right = index * width // len(names), (index + 1) * width // len(names)
        image[:, left:right] = COLOURS[name]
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)
