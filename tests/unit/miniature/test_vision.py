"""Claims about the miniature vision encoder and its training."""

import functools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from studies.miniature import train_vision as vision
from studies.miniature.training import run_training
from studies.miniature.vision_scores import DIM, MEAN, build_encoder, patch_labels

WEIGHTS = Path(__file__).parents[3] / "fmbseg/miniature/weights/vision"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported, untrained encoder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fresh")
    vision.export(build_encoder(), folder)
    return folder


@pytest.mark.parametrize(("height_px", "width_px"), [(128, 128), (96, 128), (192, 192)])
def test_plain_timm_loads_an_export_and_encodes_any_grid(
    fresh: Path, height_px: int, width_px: int
) -> None:
    for folder in (fresh, WEIGHTS):
        encoder = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        with torch.no_grad():
            tokens = encoder.forward_features(torch.randn(2, 3, height_px, width_px))
        assert encoder.num_prefix_tokens == 1
        assert tokens.shape == (2, 1 + height_px // 8 * (width_px // 8), DIM)
        plain = (tokens - encoder.norm.bias) / encoder.norm.weight
        assert torch.allclose(plain.mean(-1), torch.zeros(1), atol=1e-2)
        assert torch.allclose(plain.std(-1), torch.ones(1), atol=2e-2)


def test_shipped_weights_are_small_and_are_what_timm_loads() -> None:
    stored = load_file(WEIGHTS / "model.safetensors")
    assert (WEIGHTS / "model.safetensors").stat().st_size < 5_000_000
    encoder = timm.create_model(f"local-dir:{WEIGHTS}", pretrained=True, num_classes=0)
    loaded = encoder.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name].float()) for name in stored)
    assert encoder.pretrained_cfg["mean"] == list(MEAN)


def test_patchify_equals_the_patch_embedding_of_timm() -> None:
    encoder = build_encoder()
    images = torch.randn(2, 3, 128, 128)
    weight = encoder.patch_embed.proj.weight.flatten(1)
    ours = vision._patchify(images) @ weight.T + encoder.patch_embed.proj.bias
    theirs = encoder.patch_embed(images).flatten(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_with_every_patch_visible_the_autoencoder_encodes_as_timm_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vision, "VISIBLE_SHARE", 1.0)
    model = vision.MaskedAutoencoder(build_encoder()).eval()
    images = torch.randn(2, 3, 128, 128)
    theirs = model.encoder.forward_features(images)
    seen: list[torch.Tensor] = []
    model.encoder.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(images, torch.arange(256).expand(2, -1))
    assert torch.allclose(seen[0], theirs, atol=1e-5)


def test_patch_labels_are_the_majority_of_each_cell() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (6, 6)).astype(np.uint8)
    labels[:2, :2] = [[2, 2], [2, 0]]
    grid = patch_labels(labels, 3, 3).reshape(3, 3)
    for row in range(3):
        for column in range(3):
            cell = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            counts = np.bincount(cell.ravel(), minlength=3)
            assert counts[grid[row, column]] == counts.max()
    assert grid[0, 0] == 2


def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision, "BATCH", 4)
    often = functools.partial(run_training, save_every=1)
    monkeypatch.setattr(vision, "run_training", often)
    augment, calls = vision._augment, []

    def cut_in_the_third_step(images: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return augment(images, draw)

    def run(name: str) -> dict[str, float]:
        return vision.train_vision(
            tmp_path / name,
            tmp_path / f"{name}-weights",
            steps=3,
            pool_images=12,
            cache=tmp_path,
            compiled=False,
        )

    whole = run("whole")
    monkeypatch.setattr(vision, "_augment", cut_in_the_third_step)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.setattr(vision, "_augment", augment)
    assert run("cut") == whole
    ours = load_file(tmp_path / "cut-weights" / "model.safetensors")
    theirs = load_file(tmp_path / "whole-weights" / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
