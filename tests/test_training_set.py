"""Frozen features of the training images, over threads."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg.steps.training_set import Features, LabelMaps

IMAGES = 200
BYTES = 2 * 2 * 4 * 4  # of one image's features


class Encoder:
    """Features that name the image; some image may fail."""

    def __init__(self, failing: int | None = None) -> None:
        self.failing, self.asked = failing, []
        self.lock = threading.Lock()

    def encode(self, image: int) -> Tensor:
        time.sleep(0.001)
        with self.lock:
            self.asked.append(image)
        if image == self.failing:
            raise KeyboardInterrupt
        return torch.full((2, 2, 4), float(image))


def features(encoder: Encoder, workers: int = 3, cached: int = IMAGES) -> Features:
    params = SimpleNamespace(
        train=SimpleNamespace(feature_cache_gb=cached * BYTES / 1e9),
        runner=SimpleNamespace(workers=workers),
    )
    workspace: Any = SimpleNamespace(
        params=params, models=lambda: SimpleNamespace(vision=encoder), read_image=int
    )
    return Features(workspace, [str(index) for index in range(IMAGES)])


MAPS = LabelMaps([], lambda index: np.full((4, 4), index, np.uint8))


@pytest.mark.parametrize("cached", [0, 50, IMAGES])
def test_labels_come_in_order_and_features_are_kept_up_to_the_budget(cached: int):
    encoder = Encoder()
    made = features(encoder, cached=cached)
    labels = made.patch_labels(MAPS)
    assert [one.unique().tolist() for one in labels] == [[index] for index in range(IMAGES)]
    assert sorted(encoder.asked) == list(range(IMAGES))
    assert all(float(made(index).mean()) == index for index in range(IMAGES))
    assert len(encoder.asked) == IMAGES + IMAGES - cached, "those beyond the budget are made anew"


def test_a_stop_leaves_out_the_images_not_begun():
    encoder = Encoder(failing=5)
    with pytest.raises(KeyboardInterrupt):
        features(encoder).patch_labels(MAPS)
    assert len(encoder.asked) < IMAGES / 2
