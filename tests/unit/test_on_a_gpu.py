"""The whole method on a pretended GPU: no tensor in the wrong place, and few waits for it."""

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmbseg.align.loss import LOSSES
from fmbseg.align.optimise import repeatable_attention
from fmbseg.align.trainer import train_alignment
from fmbseg.methods.pixel_refinement import refined
from fmbseg.methods.table import METHODS
from fmbseg.miniature.world import WorldImage, generate
from fmbseg.models.batches import IMAGES_AT_ONCE
from fmbseg.models.build import build_clip, build_sam, build_vision
from fmbseg.models.device import resolve_device
from fmbseg.params import load_params
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.shard import compute_shard
from fmbseg.pseudo.stage1 import ImagePseudoMasks, pseudo_masks_of_image
from fmbseg.pseudo.teacher import ClipSamTeacher
from fmbseg.store import read_coco
from tests.conftest import REPOSITORY
from tests.support.pretend_gpu import GPU, counted, pretend
from tests.support.toy_training import SETTINGS, Cut, cut_after, result, world

NAMES = ["cat", "dog", "boat", "grass", "tree"]


@pytest.fixture(scope="module")
def drawn() -> WorldImage:
    """A picture of the miniature world."""
    return next(iter(generate(0, 1, "train")))


@pytest.fixture(scope="module")
def options() -> PseudoMasksParams:
    """The section `pseudo_masks` of params.yaml."""
    return load_params(REPOSITORY / "params.yaml").pseudo_masks


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the pretended GPU, which is there until the test ends."""
    pretend(monkeypatch)
    return str(GPU)


def _stage1(image: np.ndarray, options: PseudoMasksParams, device: str) -> ImagePseudoMasks:
    clip = build_clip("miniature", device=device, projection="naclip", short_side_px="auto")
    sam = build_sam("miniature", device=device)
    texts = clip.encode_text(NAMES)
    return pseudo_masks_of_image(image, "a.png", clip, sam, texts, NAMES, options)


class _Parts:
    """The miniature's models on a device."""

    def __init__(self, device: str, options: PseudoMasksParams) -> None:
        self._device, self._options = device, options

    def clip(self, projection: str | None = None, *, whole_crops: bool = False) -> Any:
        return build_clip(
            "miniature", device=self._device, projection=projection or "naclip",
            short_side_px="auto",
        )  # fmt: skip

    def sam(self) -> Any:
        return build_sam("miniature", device=self._device)

    def vision(self) -> Any:
        return build_vision("miniature", device=self._device)

    def head(self) -> Any:
        raise AssertionError("of no rival")

    def stage1(self) -> PseudoMasksParams:
        return self._options


def test_the_pretended_gpu_refuses_what_a_real_one_refuses(gpu: str) -> None:
    there, here = torch.ones(2, 3, device=gpu), torch.ones(2, 3)
    for mixed in (
        lambda: there + here,
        lambda: torch.cat([here, there]),
        lambda: torch.nn.functional.linear(there, here),
        lambda: torch.nn.Linear(3, 2).to(gpu)(here),
    ):
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            mixed()
    for read in (there.numpy, lambda: np.asarray(there), lambda: np.add(1, there)):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            read()
    assert torch.equal((there + torch.tensor(1)).cpu(), here + 1), "a single number may come along"


def test_the_pretended_gpu_counts_what_a_real_one_is_waited_for(gpu: str) -> None:
    there = torch.arange(6, device=gpu)
    waits = (
        lambda: there.sum().item(), lambda: bool(there.any()), there.cpu, there.tolist,
        there.nonzero, lambda: there[there > 2], lambda: there.to("cpu"), lambda: int(there[0]),
        lambda: torch.bincount(there), lambda: torch.unique(there),
    )  # fmt: skip
    for wait in waits:
        with counted() as traffic:
            wait()
        assert traffic.waits.total() >= 1, wait
    with counted() as traffic:
        (there * 2)[1:].view(-1, 1).float().softmax(0)[there[:2]].to(GPU)
        there[there > 2] = 0
    assert not traffic.waits
    with counted() as traffic:
        torch.ones(3).to(gpu, non_blocking=True)
    assert (traffic.uploads.total(), traffic.blocking.total()) == (1, 0)


def test_stage1_finds_the_same_masks_on_a_gpu(
    drawn: WorldImage, options: PseudoMasksParams, gpu: str
) -> None:
    found = {device: _stage1(drawn.image, options, device) for device in ("cpu", gpu)}
    assert found["cpu"].votes == found[gpu].votes
    for ours, theirs in zip(
        found["cpu"].masks_11 + found["cpu"].masks_12, found[gpu].masks_11 + found[gpu].masks_12,
        strict=True,
    ):  # fmt: skip
        assert ours.class_index == theirs.class_index
        assert abs(ours.mask.area_px - theirs.mask.area_px) <= 2, "the attention's last digits"


def test_stage1_waits_for_the_gpu_a_few_times_an_image_however_many_masks_there_are(
    drawn: WorldImage, options: PseudoMasksParams, gpu: str
) -> None:
    all_masks = options.model_copy(
        update={"min_predicted_iou": 0.0, "min_stability": 0.0, "min_area_fraction": 0.0,
                "nms_iou": 1.0}
    )  # fmt: skip
    counts = []
    for some in (options, all_masks):
        with counted() as traffic:
            found = _stage1(drawn.image, some, gpu)
        counts.append((len(found.masks_12), traffic.waits))
    (few, waits), (many, waits_of_many) = counts
    assert many > 5 * few
    assert waits.total() == waits_of_many.total() <= 9, waits_of_many


@pytest.mark.parametrize("name", ["corrclip", "trident"])
def test_rivals_answer_the_same_on_a_gpu(
    drawn: WorldImage, options: PseudoMasksParams, gpu: str, name: str
) -> None:
    few = options.model_copy(update={"points_per_side": 4})
    found = {
        device: METHODS[name].build(_Parts(device, few), name).segment(drawn.image, NAMES)
        for device in ("cpu", gpu)
    }
    same = found["cpu"].labels == found[gpu].labels
    assert same.mean() > 0.999, "the attention's last digits"


def test_refined_similarities_are_those_of_the_cpu(drawn: WorldImage, gpu: str) -> None:
    cosines = torch.rand(5, 12, 12, generator=torch.Generator().manual_seed(0))
    cosines[3:] -= 1  # they win nowhere
    here, there = (refined(cosines.to(device), drawn.image) for device in ("cpu", gpu))
    assert here.winners == there.winners == [0, 1, 2]
    torch.testing.assert_close(there.rows(0, 96).cpu(), here.rows(0, 96))
    answers = [one.labels((128, 128), NAMES).labels for one in (here, there)]
    assert (answers[0] == answers[1]).mean() > 0.999


def test_stage1_runs_in_several_threads_on_a_gpu(
    drawn: WorldImage, options: PseudoMasksParams, gpu: str
) -> None:
    found: list[ImagePseudoMasks] = []
    threads = [
        threading.Thread(target=lambda: found.append(_stage1(drawn.image, options, gpu)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_training_step_waits_for_the_gpu_once_and_learns_what_the_cpu_learns(
    tmp_path: Path, gpu: str, loss: Any
) -> None:
    features, labels, texts = world()
    waits, blocking, ends = [], [], []
    for epochs, device in ((2, gpu), (6, gpu), (6, "cpu")):
        settings = SETTINGS.changed(
            loss=loss, epochs=epochs, save_every_seconds=1e9, average_over=0.5, max_grad_norm=1.0,
            patches_per_image=4,
        )  # fmt: skip
        out = tmp_path / f"{epochs}{device}"
        with counted() as traffic:
            train_alignment(
                features, labels, texts, settings, out, out / "resume", progress=False,
                device=device,
            )  # fmt: skip
        waits.append(traffic.waits)
        blocking.append(traffic.blocking)
        ends.append(json.loads((out / "history.json").read_text()))
    steps = len(ends[1]) - len(ends[0])
    assert steps == 12
    assert (waits[1] - waits[0]).total() <= steps, waits[1] - waits[0]
    assert not blocking[1] - blocking[0]
    assert waits[2].total() == 0
    for ours, theirs in zip(ends[1], ends[2], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_a_training_on_a_gpu_goes_on_where_it_was_cut(tmp_path: Path, gpu: str) -> None:
    features, labels, texts = world()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = SETTINGS.changed(average_over=0.5)
    for folder, reads in ((whole, 10**6), (cut, 9), (cut, 10**6)):
        with contextlib.suppress(Cut):
            train_alignment(
                cut_after(features, reads), labels, texts, settings, folder, folder / "resume",
                progress=False, device=gpu, vision_dim=12,
            )  # fmt: skip
    assert result(cut) == result(whole)


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_cublas_is_told_to_repeat_itself_before_cuda_begins(
    gpu: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    resolve_device("cpu")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    resolve_device(name)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    resolve_device(name)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8", "what the user chose stays"


def test_training_on_a_gpu_takes_attention_whose_gradient_repeats(gpu: str) -> None:
    fused = torch.backends.cuda.mem_efficient_sdp_enabled
    for device, taken in ((gpu, False), ("cpu", True)):
        with repeatable_attention(torch.device(device)):
            assert fused() is taken
            assert torch.backends.cuda.math_sdp_enabled()
    assert fused()


def test_a_shard_goes_through_the_encoders_several_images_at_once_on_a_gpu(
    drawn: WorldImage, options: PseudoMasksParams, gpu: str, tmp_path: Path
) -> None:
    pictures = {f"{n}.png": drawn.image[: 128 - 16 * n] for n in range(2)}
    few, found = options.changed(points_per_side=4), {}
    for device in ("cpu", gpu):
        clip = build_clip("miniature", device=device, projection="naclip", short_side_px="auto")
        sam = build_sam("miniature", device=device)
        teacher = ClipSamTeacher(clip, sam, clip.encode_text(NAMES), NAMES, few)
        assert teacher.images_at_once == (1 if device == "cpu" else IMAGES_AT_ONCE)
        out, scratch = tmp_path / device, tmp_path / "scratch" / device
        compute_shard(list(pictures), pictures.__getitem__, teacher, out, scratch)
        masks = [read_coco(out / f"stage{stage}.json").masks for stage in (11, 12)]
        found[device] = [(one.image, one.class_name) for some in masks for one in some]
    assert found["cpu"] == found[gpu]
    assert len(found[gpu]) >= 4
