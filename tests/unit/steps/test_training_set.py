"""Frozen features of the training images, over threads."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg.align.ranks import Ranks
from fmbseg.steps import training_set
from fmbseg.steps.label_maps import LabelMaps
from fmbseg.steps.training_set import Features
from fmbseg.types import IGNORE

pytestmark = pytest.mark.usefixtures("unchecked")  # an image is a number here
IMAGES = 200
BYTES = 2 * 2 * 4 * 4  # of one image's features


class Encoder:
    """Features that name the image; some image may fail."""

    dim = 4

    def __init__(self, failing: int | None = None) -> None:
        self.failing = failing
        self.asked: list[int] = []
        self.sizes: list[int] = []
        self.lock = threading.Lock()

    def encode(self, image: int) -> Tensor:
        time.sleep(0.001)
        with self.lock:
            self.asked.append(image)
        if image == self.failing:
            raise KeyboardInterrupt
        return torch.full((2, 2, 4), float(image))

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // 2, image_hw[1] // 2


def features(
    encoder: Encoder, workers: int = 3, cached: int = IMAGES, kind: str = "memory", **more: Any
) -> Features:
    train = {"feature_cache": kind, "feature_cache_gb": cached * BYTES / 1e9, **more}
    params = SimpleNamespace(
        train=SimpleNamespace(**train), runner=SimpleNamespace(workers=workers)
    )
    workspace: Any = SimpleNamespace(
        params=params, read_image=int, root=more.get("root"),
        listing=lambda: SimpleNamespace(images={str(k): f"sha {k}" for k in range(IMAGES)}),
    )  # fmt: skip
    return Features(workspace, [str(index) for index in range(IMAGES)], encoder)


MAPS = LabelMaps([], lambda index: np.full((4, 4), index, np.uint8))


@pytest.mark.parametrize("cached", [0, 50, IMAGES])
def test_no_image_is_encoded_before_training_unless_all_features_are_kept(cached: int):
    encoder = Encoder()
    made = features(encoder, cached=cached)
    labels = made.patch_labels(MAPS)
    assert [one.unique().tolist() for one in labels] == [[index] for index in range(IMAGES)]
    assert encoder.asked == [], "the grid follows from the image's size"
    made.prepare(labels)
    assert sorted(encoder.asked) == (list(range(IMAGES)) if cached == IMAGES else [])
    for _ in range(2):
        assert all(float(made(index).mean()) == index for index in range(IMAGES))
    asked = IMAGES + IMAGES - cached
    assert len(encoder.asked) == asked, "those beyond the budget are made anew"


class Together(Encoder):
    """Takes several images, as on an accelerator."""

    images_at_once = 16

    def prepare(self, image: int) -> int:
        return image

    def encode_prepared(self, prepared: Sequence[int]) -> list[Tensor]:
        self.sizes.append(len(prepared))
        return [self.encode(image) for image in prepared]


def test_an_encoder_that_takes_several_images_is_given_several():
    encoder = Together()
    made = features(encoder)
    made.prepare(made.patch_labels(MAPS))
    assert encoder.sizes == [*[16] * 12, 8]
    assert encoder.asked == list(range(IMAGES))
    assert all(float(made(index).mean()) == index for index in range(IMAGES))
    assert len(encoder.asked) == IMAGES, "all are kept"


def test_features_are_prepared_of_images_with_labels_alone():
    encoder = Encoder()
    made = features(encoder)
    unlabelled = torch.full((2, 2), IGNORE)
    labels = [one if index % 3 else unlabelled for index, one in enumerate(made.patch_labels(MAPS))]
    made.prepare(labels)
    assert sorted(encoder.asked) == [index for index in range(IMAGES) if index % 3]


def test_a_stop_leaves_out_the_images_not_begun():
    encoder = Encoder(failing=5)
    made = features(encoder)
    with pytest.raises(KeyboardInterrupt):
        made.prepare(made.patch_labels(MAPS))
    assert len(encoder.asked) < IMAGES / 2


def test_nothing_is_kept_where_the_cache_is_off():
    encoder = Encoder()
    made = features(encoder, kind="off")
    made.prepare(made.patch_labels(MAPS))
    assert [float(made(3).mean()) for _ in range(2)] == [3.0, 3.0]
    assert encoder.asked == [3, 3]
    assert made.spare_bytes == 0


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Features]:
    """Features in files of ten images each."""
    names = [str(k) for k in range(IMAGES)]
    cut = {str(k): names[k : k + 10] for k in range(0, IMAGES, 10)}
    monkeypatch.setattr(training_set, "shards", lambda workspace: cut)
    monkeypatch.setattr(training_set, "_made_with", lambda workspace: workspace.params.train.by)

    def make(encoder: Encoder, cached: int = IMAGES, by: str = "a model") -> Features:
        return features(encoder, cached=cached, kind="disk", root=tmp_path, by=by)

    return make


def test_features_on_the_disk_are_found_again_and_made_anew_for_another_model(on_disk, tmp_path):
    first, again, other = Encoder(), Encoder(), Encoder()
    labels = on_disk(first).patch_labels(MAPS)
    on_disk(first).prepare(labels)
    assert sorted(first.asked) == list(range(IMAGES))
    files = {file.name for file in (tmp_path / ".scratch" / "features").iterdir()}
    assert len(files) == IMAGES / 10
    made = on_disk(again)
    made.prepare(labels)
    found = [made(index) for index in range(IMAGES)]
    assert again.asked == []
    assert all(one.dtype == torch.float32 for one in found)
    assert [one.unique().tolist() for one in found] == [[index] for index in range(IMAGES)]
    on_disk(other, by="another model").prepare(labels)
    assert sorted(other.asked) == list(range(IMAGES))
    left = {file.name for file in (tmp_path / ".scratch" / "features").iterdir()}
    assert len(left) == len(files), "those of the first model are gone"
    assert not left & files


def test_features_on_the_disk_go_on_after_a_cut_and_after_damage(on_disk, tmp_path):
    cut, again = Encoder(failing=77), Encoder()
    labels = on_disk(cut).patch_labels(MAPS)
    with pytest.raises(KeyboardInterrupt):
        on_disk(cut).prepare(labels)
    files = sorted((tmp_path / ".scratch" / "features").iterdir())
    assert len(files) == 7
    files[0].write_bytes(files[0].read_bytes()[:-1])
    made = on_disk(again)
    made.prepare(labels)
    assert len(again.asked) == IMAGES - 60
    assert all(float(made(index).mean()) == index for index in range(IMAGES))


def test_the_disk_holds_no_more_than_its_budget(on_disk, tmp_path):
    encoder = Encoder()
    made = on_disk(encoder, cached=50)  # in float32: float16 takes half
    made.prepare(made.patch_labels(MAPS))
    assert sorted(encoder.asked) == list(range(100))
    assert sum(one.stat().st_size for one in (tmp_path / ".scratch" / "features").iterdir()) < (
        50 * BYTES + 10 * 200
    )
    assert all(float(made(index).mean()) == index for index in range(IMAGES))
    assert sorted(encoder.asked) == list(range(IMAGES)), "the others are computed when asked for"


@pytest.mark.parametrize("kind", ["off", "memory", "disk"])
def test_every_image_of_a_batch_is_read_by_one_process_and_kept_by_one(kind, on_disk):
    made = on_disk(Encoder()) if kind == "disk" else features(Encoder(), kind=kind)
    batch = np.random.default_rng(0).permutation(IMAGES)[:50].tolist()
    shares = made.deal(batch, 3)
    assert sorted(k for share in shares for k in share) == sorted(batch)
    if kind == "off":
        assert [len(one) for one in shares] == [17, 17, 16]
    else:
        others = made.deal(batch[::-1], 3)
        assert [set(one) for one in shares] == [set(one) for one in others], "always the same one"
    encoder = Encoder()
    if kind != "disk":
        some = features(encoder, kind=kind)
        some.prepare(some.patch_labels(MAPS), Ranks(1, 3))
        assert len(encoder.asked) == (0 if kind == "off" else len(range(1, IMAGES, 3)))
        few = features(encoder, kind=kind, cached=IMAGES // 3 - 9)
        few.prepare(some.patch_labels(MAPS), Ranks(1, 3))
        assert [len(one) for one in few.deal(batch, 3)] == [17, 17, 16], "encoding is shared alike"


def test_a_view_is_the_same_part_of_picture_and_labels_in_every_call():
    class Pictures(Encoder):
        def encode(self, image: Any) -> Tensor:
            return torch.from_numpy(image).unfold(0, 2, 2).unfold(1, 2, 2).flatten(2).float()

    picture = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 200
    made = features(Pictures(), kind="off", seed=3, flip=True, crop_min_scale=0.3)
    made._workspace.read_image = lambda name: picture  # type: ignore[method-assign]
    blocks = picture.reshape(12, 2, 16, 2)[:, :1, :, :1].repeat(2, 1).repeat(2, 3).reshape(24, 32)
    maps = LabelMaps([], lambda index: blocks)
    seen = set()
    for epoch in range(20):
        labels, read = made.view(maps, 5, epoch)
        again, _ = made.view(maps, 5, epoch)
        assert torch.equal(labels, again)
        assert read().shape[:2] == labels.shape
        seen.add((*labels.shape, int(labels[0, 0])))
    assert len(seen) > 10, "every epoch sees another part"
    empty = np.full((24, 32), IGNORE, np.uint8)
    empty[:2, :2] = 1
    for epoch in range(20):
        labels, _ = made.view(LabelMaps([], lambda index: empty), 5, epoch)
        assert (labels != IGNORE).any(), "never a part without labels"
