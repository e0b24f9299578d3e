from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError
from fmbseg.types import IGNORE
from tests.support import official_trees as trees


def test_voc21_is_the_labels_as_they_are_with_the_border_ignored(tmp_path: Path):
    written = trees.voc2012(tmp_path)
    with PIL.Image.open(tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000000.png") as label:
        assert label.mode == "P"
    data = datasets.load("voc21", tmp_path, "val")
    for index, raw in enumerate(written.values()):
        np.testing.assert_array_equal(data[index].target, raw)
    assert (data[0].target == IGNORE).sum() == (written["2007_000000.jpg"] == 255).sum() > 0
    assert data.class_names[:3] == ("background", "aeroplane", "bicycle")
    assert data.class_names[11] == "diningtable"
    assert data.class_names[20] == "tvmonitor"


def test_voc20_ignores_background_and_counts_from_the_aeroplane(tmp_path: Path):
    written = trees.voc2012(tmp_path)
    data = datasets.load("voc20", tmp_path, "val")
    for index, raw in enumerate(written.values()):
        expected = [255 if number in (0, 255) else number - 1 for number in raw.ravel().tolist()]
        assert data[index].target.ravel().tolist() == expected
    assert (data.class_names[0], data.class_names[19]) == ("aeroplane", "tvmonitor")


def test_grey_labels_with_the_same_numbers_are_the_same(tmp_path: Path):
    written = trees.voc2012(tmp_path)
    for name, raw in written.items():
        label = Path(name).with_suffix(".png")
        trees.save_grey(tmp_path / "VOCdevkit/VOC2012/SegmentationClass" / label, raw)
    np.testing.assert_array_equal(
        datasets.load("voc21", tmp_path, "val")[2].target, written["2007_000002.jpg"]
    )


def test_everything_a_broken_tree_lacks_is_in_one_error(tmp_path: Path):
    trees.voc2012(tmp_path)
    top = tmp_path / "VOCdevkit/VOC2012"
    (top / "JPEGImages/2007_000001.jpg").unlink()
    for stem in ("2007_000000", "2007_000003"):
        (top / f"SegmentationClass/{stem}.png").unlink()
    with pytest.raises(DatasetError) as caught:
        datasets.load("voc20", tmp_path, "val")
    assert str(caught.value) == (
        f"voc20: {tmp_path} lacks "
        "1 of 4 listed images (first: VOCdevkit/VOC2012/JPEGImages/2007_000001.jpg); "
        "2 of 4 labels of listed images "
        "(first: VOCdevkit/VOC2012/SegmentationClass/2007_000000.png). "
        "To fetch it: fmbseg download voc20"
    )


def test_missing_folders_and_lists_are_named_together(tmp_path: Path):
    with pytest.raises(DatasetError) as caught:
        datasets.load("voc21", tmp_path, "val")
    for lacked in ("ImageSets/Segmentation/val.txt", "JPEGImages/", "SegmentationClass/"):
        assert f"VOCdevkit/VOC2012/{lacked}" in str(caught.value)
    trees.save_list(tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", [])
    with pytest.raises(DatasetError, match=r"val\.txt, which is empty"):
        datasets.load("voc21", tmp_path, "val")
