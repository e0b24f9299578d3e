import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from fmbseg import progress
from fmbseg.align import checkpoint, trainer
from fmbseg.align.batches import cut_batch
from fmbseg.align.head import AlignmentHead
from fmbseg.align.optimise import take_step
from fmbseg.align.settings import TrainParams
from fmbseg.align.trainer import TrainingDivergedError, train_alignment
from fmbseg.types import IGNORE

SETTINGS = TrainParams(
    loss="prototype_supcon", temperature=0.1, epochs=6, batch_images=2, learning_rate=0.1,
    momentum=0.9, weight_decay=1e-4, heads=2, mlp_ratio=2.0, chunk_patches=16, seed=3,
    save_every_seconds=0.0, patches_per_image=None, max_grad_norm=None, hold_rate_from=None,
    average_over=None, warm_up_fraction=0.0, input_short_side_px="auto", validation_images=0,
    feature_cache_gb=0.0, init_from=None, labels="pseudo",
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
    left = reads

    def read(index: int) -> Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut
        return features[index]

    return read


def run(folder: Path, settings: TrainParams = SETTINGS) -> dict[str, bytes]:
    features, labels, texts = world()
    train_alignment(features, labels, texts, settings, folder, folder / "resume", progress=False)
    return result(folder)


def result(folder: Path) -> dict[str, bytes]:
    names = ("alignment.safetensors", "alignment.json", "history.json")
    return {name: (folder / name).read_bytes() for name in names}


def test_training_finds_the_classes(tmp_path: Path) -> None:
    features, labels, texts = world()
    run(tmp_path, SETTINGS.changed(epochs=40))
    head = AlignmentHead.load(tmp_path)
    hits = total = 0
    for feature, label in zip(features, labels, strict=True):
        found = (head(feature.flatten(0, 1)[None])[0] @ texts.T).argmax(1)
        kept = label.flatten() != IGNORE
        hits += int((found == label.flatten())[kept].sum())
        total += int(kept.sum())
    assert hits / total > 0.95


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    assert run(tmp_path / "b") == first
    other = run(tmp_path / "c", SETTINGS.changed(seed=4))
    assert other["alignment.safetensors"] != first["alignment.safetensors"]


@pytest.mark.parametrize("patches_per_image", [None, 4])
@pytest.mark.parametrize("average_over", [None, 0.3])
def test_a_cut_training_resumed_equals_one_that_was_not_cut(
    tmp_path: Path, patches_per_image: int | None, average_over: float | None
) -> None:
    """18 steps, each 2 reads, after one to learn the width; cut between and within steps."""
    settings = SETTINGS.changed(patches_per_image=patches_per_image, average_over=average_over)
    expected = run(tmp_path / "whole", settings)
    features, labels, texts = world()
    for cuts in ([2], [12], [13], [14], [19], [20], [30], [35], [5, 9, 12]):
        folder = tmp_path / "-".join(map(str, cuts))
        done = 0
        for reads in cuts:
            with pytest.raises(Cut):
                train_alignment(
                    cut_after(features, reads), labels, texts, settings, folder,
                    folder / "resume", progress=False,
                )  # fmt: skip
            assert not (folder / "alignment.safetensors").exists()
            done += (reads - 1) // 2
            assert checkpoint_step(folder) == done
        history = train_alignment(
            features, labels, texts, settings, folder, folder / "resume", progress=False
        )
        assert history.resumed_at_step == done
        assert result(folder) == expected


def checkpoint_step(folder: Path) -> int:
    """Of the training that was cut last; 0 when there is none."""
    file = folder / "resume" / "checkpoint.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, framework="pt") as opened:
        return int(json.loads(opened.metadata()["progress"])["step"])


def test_a_cut_loses_at_most_the_time_between_two_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 100 s and checkpoints every 300 s, in the middle of an epoch as well."""
    settings, now = SETTINGS.changed(save_every_seconds=300.0), 0.0
    expected = run(tmp_path / "whole", settings)
    features, labels, texts = world()

    def slow(read: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
        def get(index: int) -> Tensor:
            nonlocal now
            now += 50.0
            return read(index)

        return get

    clock = SimpleNamespace(monotonic=lambda: now, perf_counter=lambda: now)
    monkeypatch.setattr(trainer, "time", clock)
    for reads in (6, 7, 8, 12, 13, 20, 33):
        folder = tmp_path / str(reads)
        with pytest.raises(Cut):
            train_alignment(
                slow(cut_after(features, reads)), labels, texts, settings, folder,
                folder / "resume", progress=False,
            )  # fmt: skip
        done = (reads - 1) // 2
        assert checkpoint_step(folder) == done // 3 * 3
        history = train_alignment(
            features, labels, texts, settings, folder, folder / "resume", progress=False
        )
        assert 0 <= done - history.resumed_at_step < 3
        assert result(folder) == expected


def test_what_is_saved_is_the_moving_average_of_the_weights_of_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's weights count exp(-age / time constant); all together 1."""
    weights: list[dict[str, Tensor]] = []

    def watched(head: AlignmentHead, *rest: Any) -> tuple[float, int]:
        done = take_step(head, *rest)
        weights.append({name: one.double() for name, one in head.state_dict().items()})
        return done

    plain = run(tmp_path / "plain")
    monkeypatch.setattr(trainer, "take_step", watched)
    averaged = run(tmp_path / "averaged", SETTINGS.changed(average_over=0.25))
    assert len(weights) == 18
    found = AlignmentHead.load(tmp_path / "averaged").state_dict()
    for name, tensor in found.items():
        total, counts = torch.zeros_like(tensor, dtype=torch.float64), 0.0
        for step, one in enumerate(weights, start=1):
            counted = math.exp(-(18 - step) / (0.25 * 18))
            total += counted * one[name]
            counts += counted
        assert torch.allclose(tensor.double(), total / counts, atol=1e-6), name
    assert averaged["history.json"] == plain["history.json"], "averaging changes no step"
    last = AlignmentHead.load(tmp_path / "plain").state_dict()
    assert all(torch.equal(last[name].double(), weights[-1][name]) for name in last), "off"


def test_the_rate_rises_over_the_warm_up(tmp_path: Path) -> None:
    run(tmp_path, SETTINGS.changed(warm_up_fraction=0.25))
    history = json.loads((tmp_path / "history.json").read_text())
    rates = [point["learning_rate"] for point in history]
    assert rates[0] == pytest.approx(0.1 / 4.5)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_the_rate_stays_where_it_is_held(tmp_path: Path) -> None:
    def rates(hold_rate_from: float | None) -> list[float]:
        folder = tmp_path / str(hold_rate_from)
        run(folder, SETTINGS.changed(hold_rate_from=hold_rate_from))
        history = json.loads((folder / "history.json").read_text())
        return [point["learning_rate"] for point in history]

    free, half = rates(None), rates(0.5)
    assert half[:10] == free[:10]
    assert half[9:] == [pytest.approx(0.05)] * 9
    assert rates(1.0) == free


@pytest.mark.parametrize("damage", ["other settings", "truncated"])
def test_a_checkpoint_of_no_use_is_not_gone_on_with(tmp_path: Path, damage: str) -> None:
    expected = run(tmp_path / "whole")
    folder = tmp_path / "again"
    run(folder, SETTINGS.changed(learning_rate=0.05) if damage == "other settings" else SETTINGS)
    if damage == "truncated":
        checkpoint = folder / "resume" / "checkpoint.safetensors"
        checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert run(folder) == expected


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_points_are_told_once_and_in_order_and_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Told at every step, or at the end alone; a resumed training tells all, first and second."""
    expected = run(tmp_path / "untold")
    history = json.loads(expected["history.json"])
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN_TELLS", seconds)
    features, labels, texts = world()
    folder = tmp_path / "told"
    told: list[list[dict[str, float]]] = []

    def train(get: Callable[[int], Tensor]) -> None:
        told.clear()
        train_alignment(
            get, labels, texts, SETTINGS, folder, folder / "resume", progress=False,
            on_points=lambda points: told.append(list(points)),
        )  # fmt: skip

    train(features.__getitem__)
    assert [point for points in told for point in points] == history
    assert len(told) == (len(history) if seconds == 0 else 1)
    assert result(folder) == expected

    (folder / "resume" / "checkpoint.safetensors").unlink()
    with pytest.raises(Cut):
        train(cut_after(features, 19))
    train(features.__getitem__)
    assert told[0] == history[:9]
    assert [point for points in told for point in points] == history
    assert result(folder) == expected


@pytest.mark.parametrize("cut", [None, 11, 25])
def test_a_validation_curve_is_written_and_changes_no_byte_of_the_weights(
    tmp_path: Path, cut: int | None
) -> None:
    """18 steps: after every second one and the last; of the weights that would be saved then."""
    settings = SETTINGS.changed(average_over=0.3)
    expected = run(tmp_path / "plain", settings)
    assert not (tmp_path / "plain" / "validation.json").exists(), "without labels no curve"
    features, labels, texts = world()
    folder, heads = tmp_path / "validated", list[dict[str, Tensor]]()
    told: list[dict[str, float]] = []

    def validate(head: AlignmentHead) -> dict[str, float]:
        heads.append({name: one.clone() for name, one in head.state_dict().items()})
        first = float(head.to_text.weight.detach().abs().sum())
        return {"miou": first, "images": 3}

    def train(get: Callable[[int], Tensor]) -> None:
        told.clear()
        train_alignment(
            get, labels, texts, settings, folder, folder / "resume", progress=False,
            validate=validate, on_points=told.extend,
        )  # fmt: skip

    if cut:
        with pytest.raises(Cut):
            train(cut_after(features, cut))
    train(features.__getitem__)
    assert result(folder) == expected
    curve = json.loads((folder / "validation.json").read_text())
    assert [point["step"] for point in curve] == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert [point for point in told if "miou" in point] == curve
    assert [point for point in told if "loss" in point] == json.loads(expected["history.json"])
    saved = AlignmentHead.load(folder).state_dict()
    assert all(torch.equal(heads[-1][name], saved[name]) for name in saved), "the mean's own"
    assert len(heads) == 9, "none twice"


def test_training_says_where_it_is_with_share_rate_time_left_and_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed at step 9 of 18, reported after each of the slow steps."""
    features, labels, texts = world()
    with pytest.raises(Cut):
        train_alignment(
            cut_after(features, 19), labels, texts, SETTINGS, tmp_path, tmp_path / "resume"
        )
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.001)
    reports: list[progress.Report] = []

    def slow(index: int) -> Tensor:
        time.sleep(0.005)
        return features[index]

    with progress.listening(reports.append):
        train_alignment(slow, labels, texts, SETTINGS, tmp_path, tmp_path / "resume")
    assert {(one.label, one.unit, one.total) for one in reports} == {("train", "step", 18)}
    assert [one.ended for one in reports] == [False] * (len(reports) - 1) + [True]
    during = [one for one in reports if one.fresh and not one.ended]
    assert during
    assert all(9 < one.done <= 18 and one.figures["loss"] > 0 for one in during)
    assert all(one.rate > 0 and one.left_s is not None for one in during)
    assert reports[-1].done == 18


def test_training_starts_from_the_initial_weights_and_from_no_checkpoint_of_others(
    tmp_path: Path,
) -> None:
    features, labels, texts = world()
    fresh = run(tmp_path / "fresh")
    initial = AlignmentHead.load(tmp_path / "fresh")
    before = {name: tensor.clone() for name, tensor in initial.state_dict().items()}

    def train(folder: Path, resume: Path, initial: AlignmentHead = initial) -> bytes:
        train_alignment(
            features, labels, texts, SETTINGS, folder, resume, progress=False, initial=initial
        )
        return (folder / "alignment.safetensors").read_bytes()

    first = train(tmp_path / "a", tmp_path / "a")
    assert first != fresh["alignment.safetensors"]
    history = json.loads((tmp_path / "a" / "history.json").read_text())
    assert history[0]["loss"] < json.loads(fresh["history.json"])[0]["loss"]
    assert all(torch.equal(before[name], t) for name, t in initial.state_dict().items())
    assert train(tmp_path / "b", tmp_path / "fresh" / "resume") == first, "its checkpoint is unfit"
    with pytest.raises(ValueError, match="initial weights"):
        train(tmp_path / "c", tmp_path / "c", AlignmentHead(12, 7, 4, 2.0))


def test_a_gradient_is_shortened_to_its_limit_and_shorter_ones_are_left_alone(tmp_path: Path):
    free = run(tmp_path / "free")
    assert run(tmp_path / "wide", SETTINGS.changed(max_grad_norm=1e6)) == free
    run(tmp_path / "tight", SETTINGS.changed(max_grad_norm=1e-7, weight_decay=0.0))
    run(tmp_path / "still", SETTINGS.changed(learning_rate=1e-12, weight_decay=0.0))
    ways = ("free", "tight", "still")
    free_, tight, still = (AlignmentHead.load(tmp_path / one).state_dict() for one in ways)
    assert all(torch.allclose(tight[name], still[name], atol=1e-5) for name in still)
    assert not all(torch.allclose(free_[name], still[name], atol=1e-3) for name in still)


def test_history_holds_no_wall_clock_and_the_rate_falls_to_zero(tmp_path: Path) -> None:
    history = json.loads(run(tmp_path)["history.json"])
    assert set(history[0]) == {"step", "epoch", "loss", "learning_rate"}
    assert history[-1]["step"] == 18
    assert history[-1]["epoch"] == 5
    assert history[-1]["learning_rate"] < 0.02 * max(point["learning_rate"] for point in history)
    assert history[-1]["loss"] < history[0]["loss"]
    assert json.loads((tmp_path / "timing.json").read_text())["patches_per_second"] > 0


def test_frozen_vision_weights_are_unchanged_by_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2,
        num_classes=0, dynamic_img_size=True,
    )  # fmt: skip
    vit.eval()
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    _, labels, texts = world()
    pixels = torch.randn(len(GRIDS), 3, 40, 40)

    def features(index: int) -> Tensor:
        rows, cols = GRIDS[index]
        tokens: Tensor = vit.forward_features(pixels[index : index + 1, :, : rows * 8, : cols * 8])
        patches: Tensor = tokens[0, vit.num_prefix_tokens :].unflatten(0, (rows, cols))
        return patches

    train_alignment(features, labels, texts, SETTINGS, tmp_path, tmp_path, progress=False)
    assert all(torch.equal(before[name], t) for name, t in vit.state_dict().items())
    with torch.inference_mode():
        cached = [features(index) for index in range(len(GRIDS))]
    train_alignment(cached, labels, texts, SETTINGS, tmp_path, tmp_path / "b", progress=False)


def test_texts_are_not_trained(tmp_path: Path) -> None:
    features, labels, texts = world()
    before = texts.clone()
    texts.requires_grad_()
    train_alignment(features, labels, texts, SETTINGS, tmp_path, tmp_path, progress=False)
    assert texts.grad is None
    assert torch.equal(before, texts.detach())


def test_a_batch_holds_every_labelled_patch_once() -> None:
    features, labels, _ = world()
    groups = cut_batch(features.__getitem__, labels, [0, 1, 3, 4], None, np.random.default_rng(0))
    assert [len(group.features) for group in groups] == [3, 1]  # 3 x 4 and 4 x 3 share a stack
    found = torch.cat([g.features.gather(1, g.wanted[..., None].expand(-1, -1, 12))[g.valid]
                       for g in groups])  # fmt: skip
    order = [0, 1, 4, 3]
    expected = torch.cat([features[i][labels[i] != IGNORE] for i in order])
    assert torch.equal(found, expected)
    classes = torch.cat([labels[i][labels[i] != IGNORE] for i in order])
    assert torch.equal(torch.cat([group.labels for group in groups]), classes)


def test_mistakes_are_named(tmp_path: Path) -> None:
    features, labels, texts = world()

    def attempt(labels: list[Tensor], settings: TrainParams = SETTINGS) -> None:
        train_alignment(features, labels, texts, settings, tmp_path, tmp_path, progress=False)

    with pytest.raises(ValueError, match="no labelled patch"):
        attempt([torch.full_like(one, IGNORE) for one in labels])
    with pytest.raises(ValueError, match="grid"):
        attempt([one.T for one in labels])
    for bad in ({"loss": "hinge"}, {"max_grad_norm": 0.0}, {"average_over": 0.0},
                {"warm_up_fraction": 1.0}, {"hold_rate_from": 1.5},
                {"save_every_seconds": -1.0}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(bad))):
            SETTINGS.changed(**bad)
    features[0] = torch.full_like(features[0], float("nan"))
    with pytest.raises(TrainingDivergedError, match="learning_rate"):
        attempt(labels)
