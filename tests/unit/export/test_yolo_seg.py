from dataclasses import replace

import numpy as np
import pytest
import yaml

from fmbseg.export.polygons import fill, polygons
from tests.support.export_images import CLASSES, decoded, export, files, many_classes


def filled(polygon: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """As OpenCV fills: pixels on an edge, and those with an odd number of edges to their right."""
    inside = np.zeros(hw, bool)
    corners = [(int(x), int(y)) for x, y in polygon]
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    for y in range(hw[0]):
        for x in range(hw[1]):
            odd = on = False
            for (x0, y0), (x1, y1) in edges:
                within = min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)
                on |= within and (x1 - x0) * (y - y0) == (y1 - y0) * (x - x0)
                if (y0 > y) != (y1 > y):
                    odd ^= x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            inside[y, x] = on or odd
    return inside


def test_polygons_filled_as_opencv_does_give_every_mask_back_with_holes_and_parts(tmp_path):
    out, images, notes = export("yolo-seg", tmp_path)
    assert notes == {"polygon_pixels_wrong_fraction": 0.0}
    for one in images:
        stem = one.stem.replace("images/", "images_/")
        text = (out / f"labels/{one.split}/{stem}.txt").read_text()
        painted = {index: np.zeros(one.image_hw, bool) for index in range(len(CLASSES))}
        for line in text.splitlines():
            label, *numbers = line.split()
            fractions = np.array(numbers, np.float32).reshape(-1, 2)
            assert len(fractions) >= 3
            assert fractions.min() >= 0
            assert fractions.max() <= 1
            corners = (fractions * np.float32(one.image_hw[::-1])).astype(np.int32)
            painted[int(label)] |= filled(corners, one.image_hw)
        for index, covered in painted.items():
            expected = np.zeros(one.image_hw, bool)
            for region in one.regions:
                if region.class_index == index:
                    expected |= decoded(region.rle)
            assert np.array_equal(covered, expected), (one.name, index)


def test_ultralytics_finds_the_labels_by_the_last_folder_called_images(tmp_path):
    out, images, _ = export("yolo-seg", tmp_path)
    placed = [name for name in files(out) if name.startswith("images/")]
    assert len(placed) == len(images)
    for name in placed:
        before, _, after = f"/{name}".rpartition("/images/")
        found = f"{before}/labels/{after}".rsplit(".", 1)[0] + ".txt"
        assert (out / found[1:]).is_file(), name


def test_the_yaml_says_splits_and_names(tmp_path):
    out, *_ = export("yolo-seg", tmp_path)
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(CLASSES)),
    }


def test_300_classes_fit(tmp_path):
    out, _ = many_classes(tmp_path, "yolo-seg")
    lines = (out / "labels/train/long.txt").read_text().splitlines()
    assert sorted(int(line.split()[0]) for line in lines) == list(range(300))
    assert yaml.safe_load((out / "data.yaml").read_text())["val"] == "images/train"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_random_masks_survive_polygons_without_tolerance(share):
    for seed in range(40):
        inside = np.random.default_rng(seed).random((7, 9)) < share
        covered = np.zeros_like(inside)
        for polygon in polygons(inside, 0.0):
            covered |= filled(polygon, inside.shape)
        assert np.array_equal(covered, inside)


def test_a_tolerance_saves_corners_and_its_cost_is_reported(tmp_path):
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 25**2
    exact, rough = (polygons(disc, tolerance)[0] for tolerance in (0.0, 1.0))
    assert len(rough) < len(exact) / 3
    wrong = (fill(rough, disc.shape) != disc).sum()
    assert 0 < wrong < 0.05 * disc.sum()
    assert np.array_equal(fill(exact, disc.shape), disc)
    _, _, notes = export("yolo-seg", tmp_path, lambda plan: replace(plan, tolerance_px=2.0))
    assert 0 < notes["polygon_pixels_wrong_fraction"] < 1
