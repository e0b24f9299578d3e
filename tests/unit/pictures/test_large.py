"""Pictures that no viewer shows whole: counted in bands, shrunk before they are drawn."""

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg import image_size
from fmbseg.pictures import large
from fmbseg.pictures.large import label_counts, viewable
from fmbseg.store import encode_image, images


@pytest.mark.parametrize("at_once", [1, 70, 2**22])
def test_labels_are_counted_in_bands_as_all_at_once(monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(image_size, "_PIXELS_AT_ONCE", at_once)
    labels = np.random.default_rng(0).choice([0, 3, 7, 255], (23, 17)).astype(np.int32)
    values, counts = np.unique(labels, return_counts=True)
    assert label_counts(labels) == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_only_a_picture_above_the_threshold_is_shrunk(monkeypatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(3), 30)[None].repeat(60, 0)
    same, kept = viewable(image, labels)
    assert same is image
    assert kept is labels
    monkeypatch.setattr(large, "LARGE_PIXELS", 20 * 30)
    small, fewer = viewable(image, labels)
    assert small.shape == (20, 30, 3)
    assert np.abs(small - image.reshape(20, 3, 30, 3, 3).mean((1, 3))).max() <= 1
    assert np.array_equal(fewer, np.repeat(np.arange(3), 10)[None].repeat(20, 0))


@pytest.mark.parametrize("at_once", [1, 200])
def test_a_picture_is_read_in_bands_as_at_once(monkeypatch, at_once: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (23, 17, 3), dtype=np.uint8)
    monkeypatch.setattr(images, "_PIXELS_AT_ONCE", at_once)
    found = images.decode_image(encode_image(PilImage.fromarray(picture)))
    assert np.array_equal(found, picture)
    assert found.flags.writeable
