from pathlib import Path

import numpy as np
import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError
from fmbseg.datasets.coco import CLASSES
from tests.support import official_trees as trees


def slow_closed_numbers() -> dict[int, int]:
    """Number in the stuffthingmaps to 0-170, by counting past the gaps."""
    closed, following = {}, 0
    for raw in range(182):
        if raw in (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90):
            continue
        closed[raw] = following
        following += 1
    return closed


CLOSED = slow_closed_numbers()
EXPECTED = {
    "coco_stuff171": {**CLOSED, 255: 255},
    "coco_object81": {raw: k + 1 if raw < 90 else 0 for raw, k in CLOSED.items()} | {255: 0},
    "coco_things80": {raw: k if raw < 90 else 255 for raw, k in CLOSED.items()} | {255: 255},
}


def test_the_gaps_close_to_mmsegmentations_numbers():
    """Anchors before and after each gap, as mmsegmentation's converter lists them."""
    for raw, closed in {
        0: 0, 10: 10, 12: 11, 24: 23, 26: 24, 27: 25, 30: 26, 43: 39, 45: 40, 64: 59, 66: 60,
        69: 61, 71: 62, 81: 72, 83: 73, 89: 79, 91: 80, 92: 81, 150: 139, 181: 170,
    }.items():  # fmt: skip
        assert CLOSED[raw] == closed
    assert len(CLOSED) == 171


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_stuffthingmaps_give_the_slow_tables_indices(name: str, tmp_path: Path):
    written = trees.coco_stuff164k(tmp_path)
    data = datasets.load(name, tmp_path, "val")
    for index, raw in enumerate(written.values()):
        expected = [EXPECTED[name][number] for number in raw.ravel().tolist()]
        assert data[index].target.ravel().tolist() == expected


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_closed_files_give_the_same_as_the_raw_ones(name: str, tmp_path: Path):
    written = trees.coco_stuff164k(tmp_path / "raw")
    trees.coco_stuff164k(tmp_path / "closed", ending="_labelTrainIds.png")
    for image, raw in written.items():
        stem = image.removesuffix(".jpg")
        closed = np.vectorize({**CLOSED, 255: 255}.get)(raw).astype(np.uint8)
        folder = tmp_path / "closed/coco_stuff164k/annotations/val2017"
        trees.save_grey(folder / f"{stem}_labelTrainIds.png", closed)
    raw_data = datasets.load(name, tmp_path / "raw", "val")
    closed_data = datasets.load(name, tmp_path / "closed", "val")
    assert raw_data.names == closed_data.names
    for index in range(trees.IMAGES):
        np.testing.assert_array_equal(raw_data[index].target, closed_data[index].target)


@pytest.mark.parametrize("name", ["coco_object81", "coco_things80"])
def test_coco_object_files_give_the_same_as_the_raw_ones(name: str, tmp_path: Path):
    written = trees.coco_stuff164k(tmp_path)
    expected = [datasets.load(name, tmp_path, "val")[index].target for index in range(4)]
    folder = tmp_path / "coco_stuff164k/annotations/val2017"
    for image, raw in written.items():
        stem = image.removesuffix(".jpg")
        objects = np.vectorize(EXPECTED["coco_object81"].get)(raw).astype(np.uint8)
        trees.save_grey(folder / f"{stem}_instanceTrainIds.png", objects)
        (folder / f"{stem}.png").unlink()
    data = datasets.load(name, tmp_path, "val")
    for index in range(trees.IMAGES):
        np.testing.assert_array_equal(data[index].target, expected[index])
    with pytest.raises(DatasetError, match="4 of 4 labels of images"):
        datasets.load("coco_stuff171", tmp_path, "val")


def test_a_number_in_a_gap_is_refused(tmp_path: Path):
    written = trees.coco_stuff164k(tmp_path)
    raw = next(iter(written.values())).copy()
    raw[2, 3] = 25
    folder = tmp_path / "coco_stuff164k/annotations/val2017"
    trees.save_grey(folder / f"{139:012d}.png", raw)
    with pytest.raises(DatasetError, match="found label 25 on 1 pixels") as caught:
        datasets.load("coco_stuff171", tmp_path, "val")[0]
    assert "hold 0-10, 12-24, 26-27, 30-43," in str(caught.value)


def test_names_stand_at_their_category_ids():
    """COCO's category id is the number in the maps plus one."""
    names = CLASSES["coco_stuff171"].names
    for category, name in {
        1: "person", 13: "stop sign", 27: "backpack", 44: "bottle", 62: "chair",
        67: "dining table", 72: "tv", 90: "toothbrush", 92: "banner", 124: "grass",
        182: "wood",
    }.items():  # fmt: skip
        assert names[CLOSED[category - 1]] == name
    assert CLASSES["coco_things80"].names == names[:80]
    assert CLASSES["coco_object81"].names == ("background", *names[:80])
    assert len(set(names)) == 171


def test_half_unpacked_archives_are_counted(tmp_path: Path):
    trees.coco_stuff164k(tmp_path)
    (tmp_path / f"coco_stuff164k/images/val2017/{139:012d}.jpg").unlink()
    (tmp_path / f"coco_stuff164k/annotations/val2017/{278:012d}.png").unlink()
    with pytest.raises(DatasetError) as caught:
        datasets.load("coco_things80", tmp_path, "val")
    assert f"1 of 3 labels of images (first: coco_stuff164k/annotations/val2017/{278:012d}" in str(
        caught.value
    )
    assert f"1 of 3 images of labels (first: coco_stuff164k/images/val2017/{139:012d}" in str(
        caught.value
    )
