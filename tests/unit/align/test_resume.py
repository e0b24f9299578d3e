"""Trainings that are cut and gone on with, and what is told while they run."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from fmbseg import progress
from fmbseg.align import checkpoint, trainer
from fmbseg.align.head import AlignmentHead
from fmbseg.align.trainer import train_alignment
from tests.support.toy_training import SETTINGS, Cut, cut_after, result, run, world


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
        resumed_at = train_alignment(
            features, labels, texts, settings, folder, folder / "resume", progress=False
        )
        assert resumed_at == done
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
        resumed_at = train_alignment(
            features, labels, texts, settings, folder, folder / "resume", progress=False
        )
        assert 0 <= done - resumed_at < 3
        assert result(folder) == expected


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
