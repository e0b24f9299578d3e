from pathlib import Path

import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError
from fmbseg.types import IGNORE
from tests.support import official_trees as trees


def test_other_is_ignored_and_the_150_count_from_the_wall(tmp_path: Path):
    written = trees.ade(tmp_path)
    data = datasets.load("ade150", tmp_path, "val")
    for index, raw in enumerate(written.values()):
        expected = [number - 1 if number else IGNORE for number in raw.ravel().tolist()]
        assert data[index].target.ravel().tolist() == expected
        assert (data[index].target == IGNORE).any()
    places = {0: "wall", 7: "bed", 12: "person", 43: "signboard", 89: "television receiver",
              125: "pot", 149: "flag"}  # fmt: skip
    assert {place: data.class_names[place] for place in places} == places
    assert len(set(data.class_names)) == 150


def test_the_official_split_names_are_taken_too(tmp_path: Path):
    trees.ade(tmp_path)
    for ours, theirs in (("val", "validation"), ("train", "training")):
        assert (
            datasets.load("ade150", tmp_path, ours).names
            == datasets.load("ade150", tmp_path, theirs).names
        )


def test_half_unpacked_images_and_labels_are_counted(tmp_path: Path):
    trees.ade(tmp_path)
    top = tmp_path / "ADEChallengeData2016"
    (top / "images/validation/ADE_val_00000002.jpg").unlink()
    (top / "annotations/validation/ADE_val_00000003.png").unlink()
    with pytest.raises(DatasetError) as caught:
        datasets.load("ade150", tmp_path, "val")
    for lacked in (
        "1 of 3 labels of images (first: ADEChallengeData2016/annotations/validation/"
        "ADE_val_00000003.png)",
        "1 of 3 images of labels (first: ADEChallengeData2016/images/validation/"
        "ADE_val_00000002.jpg)",
    ):
        assert lacked in str(caught.value)


def test_an_empty_image_folder_is_named(tmp_path: Path):
    (tmp_path / "images/validation").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        datasets.load("ade150", tmp_path, "val")
    assert "images/validation/, which holds no .jpg" in str(caught.value)
    assert "annotations/validation/" in str(caught.value)
