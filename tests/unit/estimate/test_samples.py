"""Which images stand for a data set, and how many there are in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg.datasets import DatasetError
from fmbseg.estimate.sample import DataSet, data_sets_of
from fmbseg.params import ParamsError, load_params
from tests.support import official_trees as trees

REPOSITORY = Path(__file__).parents[3]


def written(data_set: DataSet, most: int, folder: Path) -> list[tuple[int, int]]:
    """Height and width of the pictures."""
    data_set.write(most, folder)
    found = []
    for picture in sorted((folder / "images").iterdir()):
        labels = np.asarray(PilImage.open(folder / "labels" / picture.name))
        assert (labels < len(data_set.classes)).any(), "all have labels"
        found.append(labels.shape)
        assert PilImage.open(picture).size == labels.shape[::-1]
    return found


def test_a_public_data_set_stands_for_itself_where_it_is_and_for_its_usual_size_where_not(
    tmp_path: Path,
):
    params = load_params(REPOSITORY / "params.yaml")
    absent, (home,) = data_sets_of(params, "coco_stuff171", tmp_path)
    assert (absent.images, home.images, len(absent.classes)) == (118_287, 5_000, 171)
    assert written(absent, 2, tmp_path / "1") == [(480, 640)] * 2, "photographs"
    assert not absent.here
    assert sum((absent.archives | home.archives).values()) > 20e9
    trees.voc2012(tmp_path)
    train, (home,) = data_sets_of(params, "voc21", tmp_path)
    assert (train.images, train.here) == (1464, True)
    assert len(train.classes) == 20, "background is no class to look for"
    assert len(home.classes) == 21
    assert written(train, 3, tmp_path / "2") == [(13, 17)]
    assert len(written(home, 3, tmp_path / "3")) == 3


def test_every_data_set_that_is_scored_has_a_sample_with_labels(tmp_path: Path):
    sets = ("home", "miniature_unseen", "ade150", "voc20", "voc21")
    params = load_params(REPOSITORY / "params.yaml", {"evaluate.data_sets": list(sets)})
    _, scored = data_sets_of(params, None, tmp_path)
    assert [one.name for one in scored] == ["miniature", *sets[1:]]
    assert [one.images for one in scored] == [150, 60, 2_000, 1_449, 1_449]
    for one in scored[:3]:
        assert len(written(one, 1, tmp_path / one.name)) == 1
    _, scored = data_sets_of(params, "voc20", tmp_path)
    assert [one.name for one in scored] == [
        "voc20", "miniature_unseen", "ade150", "voc21"
    ], "its own val split is home, and scored once"  # fmt: skip
    unknown = load_params(REPOSITORY / "params.yaml", {"evaluate.data_sets": ["voc99"]})
    with pytest.raises(ParamsError, match=r"evaluate\.data_sets: found 'voc99'"):
        data_sets_of(unknown, None, tmp_path)


@pytest.fixture
def folder_params(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "images").mkdir()
    for index in range(9):
        picture = PilImage.fromarray(np.full((20, 30, 3), index, np.uint8))
        picture.save(tmp_path / f"images/{index}.png")
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    return {"data.images": str(tmp_path / "images"), "data.classes": str(tmp_path / "classes.txt")}


def test_images_of_a_folder_are_drawn_and_a_number_stands_for_more_of_them(
    folder_params: dict[str, str], tmp_path: Path
):
    params = load_params(REPOSITORY / "params.yaml", folder_params)
    train, scored = data_sets_of(params, None, tmp_path)
    assert len(written(train, 3, tmp_path / "3")) == 3
    reds = [np.asarray(PilImage.open(one))[0, 0, 0] for one in (tmp_path / "3/images").iterdir()]
    assert len(set(reds)) == 3
    assert max(reds) > 2, "not the first ones"
    assert (train.images, train.drawn, scored) == (9, 0, [])
    assert data_sets_of(params, "1000", tmp_path)[0].images == 1000
    labelled = load_params(
        REPOSITORY / "params.yaml", {**folder_params, "data.labels": str(tmp_path)}
    )
    train, scored = data_sets_of(labelled, None, tmp_path)
    assert scored[0].images == 9
    assert len(written(train, 20, tmp_path / "20")) == 9


def test_images_that_cannot_be_used_are_not_measured(folder_params: dict[str, str], tmp_path: Path):
    for index in range(1, 9):
        (tmp_path / f"images/{index}.png").write_text("no picture")
    params = load_params(REPOSITORY / "params.yaml", folder_params)
    train, _ = data_sets_of(params, None, tmp_path)
    train.write(3, tmp_path / "3")
    found = list((tmp_path / "3" / "images").iterdir())
    assert len(found) == 1, "others are looked at in their place"
    (tmp_path / "images/0.png").write_text("no picture")
    with pytest.raises(DatasetError, match="of 9 images none can be used"):
        train.write(3, tmp_path / "none of them")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    params = load_params(REPOSITORY / "params.yaml", {"data.images": str(tmp_path / "none")})
    with pytest.raises(DatasetError, match="no such folder"):
        data_sets_of(params, None, tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ParamsError, match="found no image"):
        data_sets_of(params, None, tmp_path)
