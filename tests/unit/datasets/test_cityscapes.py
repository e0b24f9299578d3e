from pathlib import Path

import numpy as np
import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError
from fmbseg.datasets.cityscapes import CLASSES, EVALUATED, LABELS
from tests.support import official_trees as trees


def write_train_ids(root: Path, written: trees.Raw, *, alone: bool) -> None:
    for name, raw in written.items():
        label = root / "gtFine/val" / name.replace("_leftImg8bit", "_gtFine_labelIds")
        train_ids = label.with_name(label.name.replace("labelIds", "labelTrainIds"))
        trees.save_grey(train_ids, trees.cityscapes_train_ids(raw))
        if alone:
            label.unlink()


def test_label_ids_and_train_ids_of_an_image_give_the_same_target(tmp_path: Path):
    written = trees.cityscapes(tmp_path / "ids")
    trees.cityscapes(tmp_path / "train_ids")
    write_train_ids(tmp_path / "train_ids", written, alone=True)
    by_ids = datasets.load("cityscapes19", tmp_path / "ids", "val")
    by_train_ids = datasets.load("cityscapes19", tmp_path / "train_ids", "val")
    assert by_ids.names == by_train_ids.names == tuple(written)
    for index, raw in enumerate(written.values()):
        expected = trees.cityscapes_train_ids(raw)
        np.testing.assert_array_equal(by_ids[index].target, expected)
        np.testing.assert_array_equal(by_train_ids[index].target, expected)


def test_label_ids_win_where_both_files_are_there(tmp_path: Path):
    written = trees.cityscapes(tmp_path)
    for name, raw in written.items():
        file = tmp_path / "gtFine/val" / name.replace("_leftImg8bit", "_gtFine_labelTrainIds")
        trees.save_grey(file, np.zeros_like(raw))
    raw = written["frankfurt/frankfurt_000000_000019_leftImg8bit.png"]
    np.testing.assert_array_equal(
        datasets.load("cityscapes19", tmp_path, "val")[0].target, trees.cityscapes_train_ids(raw)
    )


def test_the_thirty_are_all_labels_but_the_four_that_mark_nothing(tmp_path: Path):
    written = trees.cityscapes(tmp_path)
    data = datasets.load("cityscapes30", tmp_path, "val")
    for index, raw in enumerate(written.values()):
        expected = [number - 4 if number > 3 else 255 for number in raw.ravel().tolist()]
        assert data[index].target.ravel().tolist() == expected
    assert set(data.class_names) - {*CLASSES["cityscapes19"].names} == {
        "static", "dynamic", "ground", "parking", "rail track", "guard rail", "bridge", "tunnel",
        "pole group", "caravan", "trailer",
    }  # fmt: skip


def test_the_thirty_need_label_ids(tmp_path: Path):
    written = trees.cityscapes(tmp_path)
    write_train_ids(tmp_path, written, alone=True)
    with pytest.raises(DatasetError, match=r"4 of 4 labels of images .*_gtFine_labelIds\.png"):
        datasets.load("cityscapes30", tmp_path, "val")


def test_names_are_those_of_the_official_table():
    assert CLASSES["cityscapes19"].names == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    )  # fmt: skip
    assert CLASSES["cityscapes30"].names[29] == "bicycle"
    assert {
        label: EVALUATED.index(name) for label, name in enumerate(LABELS) if name in EVALUATED
    } == trees.CITYSCAPES_TRAIN_IDS


def test_everything_a_broken_tree_lacks_is_in_one_error(tmp_path: Path):
    trees.cityscapes(tmp_path)
    city = "munster/munster_000001_000019"
    (tmp_path / f"gtFine/val/{city}_gtFine_labelIds.png").unlink()
    (tmp_path / "leftImg8bit/val/frankfurt/frankfurt_000002_000019_leftImg8bit.png").unlink()
    with pytest.raises(DatasetError) as caught:
        datasets.load("cityscapes19", tmp_path, "val")
    for lacked in (
        f"1 of 3 labels of images (first: gtFine/val/{city}_gtFine_labelIds.png)",
        "1 of 3 images of labels (first: "
        "leftImg8bit/val/frankfurt/frankfurt_000002_000019_leftImg8bit.png)",
    ):
        assert lacked in str(caught.value)
