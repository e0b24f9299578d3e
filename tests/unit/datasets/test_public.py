"""What holds for every public data set alike; its own numbers are tested in its family's file."""

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fmbseg import datasets
from fmbseg.datasets import Dataset, DatasetError
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.store import UnreadableImageError
from fmbseg.types import IGNORE
from fmbseg.vocabulary import Vocabulary, read_classes
from tests.support import official_trees as trees
from tests.support.official_trees import TREES

ALL = sorted(TREES)


@pytest.mark.parametrize("name", ALL)
def test_every_class_is_reached_and_nothing_else(name: str, tmp_path: Path):
    written = TREES[name](tmp_path)
    data = datasets.load(name, tmp_path, "val")
    assert isinstance(data, Dataset)
    assert data.names == tuple(written)
    assert len(data) == trees.IMAGES
    assert len(data.class_names) == len(CATALOGUE[name].classes.names)
    for index, (image, raw) in enumerate(written.items()):
        sample = data[index]
        assert sample.name == image
        assert sample.image.shape == (*raw.shape, 3)
        assert sample.target.dtype == np.uint8
        assert set(np.unique(sample.target)) - {IGNORE} == set(range(len(data.class_names)))
    assert data[-1].name == data.names[-1]
    with pytest.raises(IndexError):
        data[trees.IMAGES]


@pytest.mark.parametrize("name", ALL)
def test_opening_and_listing_decode_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    TREES[name](tmp_path)
    for file in tmp_path.rglob("*.*g"):
        file.write_bytes(b"no picture")
    with monkeypatch.context() as patch:
        patch.setattr(PIL.Image, "open", None)
        data = datasets.load(name, tmp_path, "val")
        assert len(data) == len(data.names) == trees.IMAGES
    with pytest.raises(UnreadableImageError):
        data[0]


@pytest.mark.parametrize("name", ALL)
def test_train_is_another_list_and_images_alone_need_no_labels(name: str, tmp_path: Path):
    written = TREES[name](tmp_path)
    assert datasets.load(name, tmp_path, "train").names == tuple(written)[:1]
    for folder in ("SegmentationClass", "SegmentationClassContext", "annotations", "gtFine"):
        for found in [*tmp_path.rglob(folder)]:
            shutil.rmtree(found)
    with pytest.raises(DatasetError, match="lacks"):
        datasets.load(name, tmp_path, "val")
    data = datasets.load(name, tmp_path, "val", with_labels=False)
    assert data.names == tuple(written)
    assert data[1].target is None


@pytest.mark.parametrize("name", ALL)
def test_the_root_may_be_the_tree_itself_or_the_folder_it_is_in(name: str, tmp_path: Path):
    written = TREES[name](tmp_path / "cityscapes")
    images = {"JPEGImages", "images", "leftImg8bit"}
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    (top,) = (folder for folder in folders if images & {inner.name for inner in folder.iterdir()})
    for root in (top, top.parent):
        assert datasets.load(name, root, "val").names == tuple(written)


@pytest.mark.parametrize("name", ALL)
def test_an_absent_tree_is_refused_with_the_command_that_fetches_it(name: str, tmp_path: Path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError) as caught:
            datasets.load(name, root, "val")
        message = str(caught.value)
        assert message.startswith(f"{name}: {root}")
        assert ("no such folder" in message) == (root != tmp_path)
        assert message.count("; ") >= 1  # several things are missing
        assert message.endswith(f"To fetch it: fmbseg download {name}")
    with pytest.raises(DatasetError, match="needs a root"):
        datasets.load(name, None, "val")
    with pytest.raises(DatasetError, match=f"{name}: unknown split 'test'; wanted one of"):
        datasets.load(name, tmp_path, "test")


@pytest.mark.parametrize("name", ALL)
def test_labels_of_another_size_or_encoding_are_named(name: str, tmp_path: Path):
    TREES[name](tmp_path)
    data = datasets.load(name, tmp_path, "val")
    stem = data.names[1].rsplit("/")[-1].removesuffix("_leftImg8bit.png").removesuffix(".jpg")
    labels = [path for path in tmp_path.rglob(f"{stem}*.png") if "Img" not in path.name]
    for wrong, words in (
        (np.zeros((3, 4), np.uint8), r"height x width \(3, 4\)"),
        (np.full((14, 20), 250, np.uint8), "found label 250 on 280 pixels"),
        (np.full((14, 20), 300, np.uint16), "found label 300"),
        (np.zeros((14, 20, 3), np.uint8), "mode RGB"),
    ):
        for path in labels:
            trees.save_grey(path, wrong)
        with pytest.raises(DatasetError, match=words) as caught:
            data[1]
        assert stem in str(caught.value)
    for path in labels:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DatasetError, match="cannot be read"):
        data[1]
    assert data[0].target is not None


@pytest.mark.parametrize("name", ALL)
def test_the_class_names_are_a_vocabulary(name: str, tmp_path: Path):
    table = CATALOGUE[name].classes
    assert Vocabulary(table.names).names == table.names
    (tmp_path / "classes.txt").write_text("\n".join(table.names) + "\n")
    assert read_classes(tmp_path / "classes.txt") == Vocabulary(table.names)


@pytest.mark.parametrize("name", ALL)
def test_background_is_a_class_only_where_it_is_scored(name: str, tmp_path: Path):
    TREES[name](tmp_path)
    data, table = datasets.load(name, tmp_path, "val"), CATALOGUE[name].classes
    assert data.class_names == table.names
    if name not in ("voc21", "context60", "coco_object81"):
        assert data.background_index is table.background_index is None
        assert table.background_names == ()
        assert "background" not in table.names
        return
    assert data.background_index == table.background_index == 0
    assert table.names[0] == "background"
    stuff = CATALOGUE["coco_stuff171"].classes.names[80:]
    kinds_of_a_class = {word for word in stuff if word.split("-")[0] in table.names}
    assert set(stuff) - {*table.background_names} == kinds_of_a_class
    assert ("wall-brick" in kinds_of_a_class) == (name == "context60")
    Vocabulary((*table.names[1:], *table.background_names))


def test_every_name_of_the_catalogue_is_loaded_and_no_other():
    assert sorted(CATALOGUE) == ALL
    with pytest.raises(DatasetError) as caught:
        datasets.load("voc", "somewhere", "val")
    assert all(repr(name) in str(caught.value) for name in [*ALL, "folder", "miniature"])
