"""A training over a few random features, done in a moment, which can be cut anywhere."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fmbseg.align.settings import TrainParams
from fmbseg.align.trainer import train_alignment
from fmbseg.types import IGNORE

SETTINGS = TrainParams(
    loss="prototype_supcon", temperature=0.1, epochs=6, batch_images=2, learning_rate=0.1,
    momentum=0.9, weight_decay=1e-4, heads=2, mlp_ratio=2.0, chunk_patches=16, seed=3,
    save_every_seconds=0.0, patches_per_image=None, max_grad_norm=None, hold_rate_from=None,
    average_over=None, warm_up_fraction=0.0, input_short_side_px="auto", validation_images=0,
    feature_cache="off", feature_cache_gb=0.0, flip=False, crop_min_scale=1.0, processes=1,
    init_from=None, corrections_weight=1.0, labels="pseudo", min_agreement=0.7,
)  # fmt: skip
GRIDS = [(3, 4), (4, 3), (3, 4), (2, 5), (3, 4), (3, 3), (3, 4)]  # one batch may hold several


class Cut(Exception):
    """Stands for a killed process."""


def world() -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Features = noisy class centres; some patches ignored; image 5 without any label."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 12, generator=generator)
    texts = functional.normalize(torch.randn(3, 7, generator=generator), dim=1)
    features, labels = [], []
    for index, grid in enumerate(GRIDS):
        label = torch.randint(0, 3, grid, generator=generator)
        features.append(centres[label] + 0.3 * torch.randn(*grid, 12, generator=generator))
        label[torch.rand(grid, generator=generator) < 0.3] = IGNORE
        labels.append(torch.full(grid, IGNORE) if index == 5 else label)
    return features, labels, texts


def cut_after(features: list[Tensor], reads: int) -> Callable[[int], Tensor]:
    """Features that are read so often; the next read raises `Cut`."""
    left = reads

    def read(index: int) -> Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut
        return features[index]

    return read


def run(folder: Path, settings: TrainParams = SETTINGS) -> dict[str, bytes]:
    """Train on `world` into a folder; see `result`."""
    features, labels, texts = world()
    train_alignment(features, labels, texts, settings, folder, folder / "resume", progress=False)
    return result(folder)


def result(folder: Path) -> dict[str, bytes]:
    """Name to content of the files that a training leaves and no clock changes."""
    names = ("alignment.safetensors", "alignment.json", "history.json")
    return {name: (folder / name).read_bytes() for name in names}
