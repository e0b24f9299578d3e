import numpy as np
import PIL.Image
import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError
from fmbseg.miniature import world
from fmbseg.store import UnreadableImageError
from fmbseg.types import IGNORE


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    for index, name in enumerate(("b.jpg", "sub/a ü.png", "c.png")):
        save(tmp_path / "images" / name, np.full((4, 6, 3), index, np.uint8))
    save(tmp_path / "labels/b.png", np.array([[0, 1, 2, 9, 9, 0]] * 4, np.uint8))
    save(tmp_path / "labels/sub/a ü.png", np.array([[2] * 6] * 4, np.uint16))
    return tmp_path


def test_a_folder_gives_images_and_labels_with_the_ignore_label_mapped(root):
    data = datasets.load("folder", root, "val", class_names=["x", "y", "z"], ignore_label=9)
    assert data.class_names == ("x", "y", "z")
    assert data.names == ("b.jpg", "c.png", "sub/a ü.png")
    assert len(data) == 3
    target = data[0].target
    assert target.dtype == np.uint8
    np.testing.assert_array_equal(target[1], [0, 1, 2, IGNORE, IGNORE, 0])
    assert data[1].target is None
    assert (data[2].target == 2).all()
    assert data[2].image.shape == (4, 6, 3)
    assert [sample.name for sample in (data[0], data[2])] == ["b.jpg", "sub/a ü.png"]
    assert data[-1].name == "sub/a ü.png"
    with pytest.raises(IndexError):
        data[3]


def test_a_plain_folder_is_its_own_image_folder(root):
    data = datasets.load("folder", root / "images", "val")
    assert data.names == ("b.jpg", "c.png", "sub/a ü.png")
    assert data[0].target is None


def test_labels_beside_images_in_one_folder_are_not_taken_for_images(tmp_path):
    save(tmp_path / "a.jpg", np.zeros((4, 6, 3), np.uint8))
    save(tmp_path / "labels/a.png", np.zeros((4, 6), np.uint8))
    data = datasets.load("folder", tmp_path, "val", class_names=["x"])
    assert data.names == ("a.jpg",)
    assert (data[0].target == 0).all()


def test_a_split_folder_is_preferred_when_there_is_one(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "images" / split / f"{split}.png", np.zeros((4, 6, 3), np.uint8))
    assert datasets.load("folder", tmp_path, "val").names == ("val.png",)
    assert datasets.load("folder", tmp_path, "all").names == ("train/train.png", "val/val.png")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (np.full((4, 6), 3, np.uint8), "found label 3 on 24 pixels; wanted 0 to 2"),
        (np.full((4, 6), 255, np.uint8), "found label 255"),
        (np.full((4, 6), 300, np.uint16), "found label 300"),
        (np.zeros((6, 4), np.uint8), r"\(6, 4\)"),
        (np.zeros((4, 6, 3), np.uint8), "mode RGB"),
    ],
)
def test_a_label_file_that_does_not_fit_is_named(root, label, words):
    save(root / "labels/b.png", label)
    data = datasets.load("folder", root, "val", class_names=["x", "y", "z"], ignore_label=9)
    with pytest.raises(DatasetError, match=words) as caught:
        data[0]
    assert "b.png" in str(caught.value)


def test_palette_labels_are_read_as_indices_not_colours(root):
    picture = PIL.Image.new("P", (6, 4), 2)
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    picture.save(root / "labels/b.png")
    data = datasets.load("folder", root, "val", class_names=["x", "y", "z"])
    assert (data[0].target == 2).all()


def test_a_bad_folder_is_refused_when_it_is_opened(root, tmp_path):
    for options, words in (
        ({"labels": root / "labels"}, "class_names"),
        ({"labels": root / "nowhere", "class_names": ["x"]}, "nowhere"),
        ({"labels": root / "images/sub", "class_names": ["x"]}, "no label file fits"),
        ({"class_names": [str(i) for i in range(256)]}, "at most 255"),
    ):
        with pytest.raises(DatasetError, match=words):
            datasets.load("folder", root, "", **options)
    with pytest.raises(DatasetError, match="no such folder"):
        datasets.load("folder", tmp_path / "absent", "val")
    with pytest.raises(DatasetError, match="unknown data set 'voc'"):
        datasets.load("voc", tmp_path, "val")
    with pytest.raises(DatasetError, match="root"):
        datasets.load("folder", None, "val")


def test_images_are_read_only_when_asked_for(root):
    (root / "images/c.png").write_bytes(b"")
    data = datasets.load("folder", root, "val", class_names=["x", "y", "z"], ignore_label=9)
    assert data[0].image.shape == (4, 6, 3)
    with pytest.raises(UnreadableImageError, match="empty"):
        data[1]


def test_the_miniature_gives_the_worlds_images_with_their_labels():
    data = datasets.load("miniature", None, "val", count=3, seed=5)
    drawn = list(world.generate(5, 3, "val"))
    assert data.names == tuple(one.name for one in drawn)
    assert data.class_names == world.SEEN_CLASS_NAMES
    for index in (2, 0):
        np.testing.assert_array_equal(data[index].image, drawn[index].image)
        np.testing.assert_array_equal(data[index].target, drawn[index].labels)
    assert data[-1].name == "val-00002"
    with pytest.raises(IndexError):
        data[3]


def test_the_miniature_with_unseen_things_has_their_names():
    things = world.UNSEEN_THINGS
    data = datasets.load("miniature", None, "test", count=2, thing_names=things)
    assert data.class_names == world.CLASS_NAMES
    assert data.names == ("test-00000", "test-00001")
    assert data[0].target.max() >= len(world.SEEN_CLASS_NAMES)


@pytest.mark.parametrize(
    ("split", "options", "words"),
    [
        ("dev", {"count": 1}, "split"),
        ("val", {"count": 1, "look": "dusk"}, "look"),
        ("val", {"count": 1, "thing_names": ("dragon",)}, "dragon"),
        ("val", {"count": -1}, "-1"),
    ],
)
def test_the_miniature_refuses_what_it_cannot_draw(split, options, words):
    with pytest.raises(DatasetError, match=words):
        datasets.load("miniature", None, split, **options)
