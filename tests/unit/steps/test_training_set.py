"""Frozen features of the training images, over threads."""

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

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


def features(encoder: Encoder, workers: int = 3, cached: int = IMAGES) -> Features:
    params = SimpleNamespace(
        train=SimpleNamespace(feature_cache_gb=cached * BYTES / 1e9),
        runner=SimpleNamespace(workers=workers),
    )
    workspace: Any = SimpleNamespace(params=params, read_image=int)
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
