import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from fmbseg.align import trainer
from fmbseg.align.batches import Norms, View, draw_patches, labels_of, read_group
from fmbseg.align.head import AlignmentHead
from fmbseg.align.optimise import take_step
from fmbseg.align.ranks import PatchesOfGroups
from fmbseg.align.settings import TrainParams
from fmbseg.align.trainer import TrainingDivergedError, train_alignment
from fmbseg.types import IGNORE
from tests.support.toy_training import GRIDS, SETTINGS, run, world


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


def test_what_is_saved_is_the_moving_average_of_the_weights_of_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's weights count exp(-age / time constant); all together 1."""
    weights: list[dict[str, Tensor]] = []

    def watched(model: PatchesOfGroups, *rest: Any) -> float:
        done = take_step(model, *rest)
        weights.append({name: one.double() for name, one in model.head.state_dict().items()})
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


def test_views_take_the_place_of_features_and_labels_in_every_epoch(tmp_path: Path) -> None:
    features, labels, texts = world()

    def train(folder: Path, turned: bool, norms_bytes: float = 0.0) -> bytes:
        def view(image: int, epoch: int) -> View:
            places = epoch % 2 if turned else 0
            return labels[image], lambda: features[image].roll(places, 2)

        train_alignment(
            features, labels, texts, SETTINGS, folder, folder, progress=False, views=view,
            norms_bytes=norms_bytes,
        )  # fmt: skip
        return (folder / "alignment.safetensors").read_bytes()

    expected = run(tmp_path / "plain")["alignment.safetensors"]
    assert train(tmp_path / "same", turned=False) == expected
    turned = train(tmp_path / "turned", turned=True)
    assert turned != expected
    assert train(tmp_path / "kept", turned=True, norms_bytes=1e9) == turned


def test_texts_are_not_trained(tmp_path: Path) -> None:
    features, labels, texts = world()
    before = texts.clone()
    texts.requires_grad_()
    train_alignment(features, labels, texts, SETTINGS, tmp_path, tmp_path, progress=False)
    assert texts.grad is None
    assert torch.equal(before, texts.detach())


def test_a_batch_holds_every_labelled_patch_once() -> None:
    features, labels, _ = world()
    drawn = draw_patches(labels, [0, 1, 3, 4], None, np.random.default_rng(0))
    for norms in (None, Norms(0), Norms(1e9)):
        groups = [read_group(one, features.__getitem__, norms) for one in drawn]
        assert [len(group.asking) for group in groups] == [3, 1]  # 3 x 4 and 4 x 3 share a stack
        found = torch.cat([group.asking.flatten(0, 1)[group.real] for group in groups])
        order = [0, 1, 4, 3]
        expected = torch.cat([features[i][labels[i] != IGNORE] for i in order])
        assert torch.equal(found, expected)
        classes = torch.cat([labels[i][labels[i] != IGNORE] for i in order])
        assert torch.equal(labels_of(drawn), classes)


def test_patches_are_drawn_from_one_class_after_the_other() -> None:
    """Held against the plain way, on draws of all sizes."""
    for seed in range(20):
        labels = np.random.default_rng(seed).integers(0, 4, (5, 6)) ** 2
        for count in (1, 7, 20, 29):
            drawn = draw_patches(
                [torch.from_numpy(labels)], [0], count, np.random.default_rng(seed)
            )
            shuffled = np.random.default_rng(seed).permutation(30).tolist()
            turns = [
                sum(labels.flat[other] == labels.flat[one] for other in shuffled[:place])
                for place, one in enumerate(shuffled)
            ]
            places = sorted(range(30), key=lambda place: turns[place])[:count]
            assert drawn[0][0].wanted.tolist() == sorted(shuffled[place] for place in places)


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
