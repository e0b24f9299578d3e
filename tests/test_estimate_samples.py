"""Which images stand for a data set, and how many there are in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg.datasets import DatasetError
from fmbseg.estimate.sample import samples_of
from fmbseg.params import ParamsError, load_params
from tests import official_trees as trees

REPOSITORY = Path(__file__).parents[1]


def test_a_public_data_set_stands_for_itself_where_it_is_and_for_its_usual_size_where_not(
    tmp_path: Path,
):
    params = load_params(REPOSITORY / "params.yaml")
    (tmp_path / "drawn").mkdir()
    found = samples_of(params, "coco_stuff171", 2, tmp_path, tmp_path / "drawn")
    absent, home = found.train, found.scored[0]
    assert (absent.images, home.images, len(absent.column.classes)) == (118_287, 5_000, 171)
    assert [absent.reader()(name).shape for name in absent.measured(2)] == [(480, 640, 3)] * 2
    assert "640 x 480" in absent.note
    assert sum((absent.archives | home.archives).values()) > 20e9
    trees.voc2012(tmp_path)
    (tmp_path / "again").mkdir()
    found = samples_of(params, "voc21", 3, tmp_path, tmp_path / "again")
    assert (found.train.images, found.train.note) == (1464, "")
    assert len(found.train.column.classes) == 20, "background is no class to look for"
    assert len(found.scored[0].column.classes) == 21
    assert found.train.measured(3) == ["2007_000000.jpg"]
    assert found.train.reader()("2007_000000.jpg").shape == (13, 17, 3)
    assert len(found.scored[0].measured(3)) == 3


def test_every_data_set_that_is_scored_has_a_sample(tmp_path: Path):
    sets = ("home", "miniature_unseen", "ade150", "voc20", "voc21")
    params = load_params(REPOSITORY / "params.yaml", {"evaluate.data_sets": list(sets)})
    found = samples_of(params, None, 2, tmp_path, tmp_path)
    assert [one.column.name for one in found.scored] == ["miniature", *sets[1:]]
    assert [one.images for one in found.scored] == [150, 60, 2_000, 1_449, 1_449]
    (tmp_path / "public").mkdir()
    found = samples_of(params, "voc20", 2, tmp_path, tmp_path / "public")
    assert [one.column.name for one in found.scored] == [
        "voc20", "miniature_unseen", "ade150", "voc21"
    ], "its own val split is home, and scored once"  # fmt: skip
    unknown = load_params(REPOSITORY / "params.yaml", {"evaluate.data_sets": ["voc99"]})
    (tmp_path / "again").mkdir()
    with pytest.raises(ParamsError, match=r"evaluate\.data_sets: found 'voc99'"):
        samples_of(unknown, None, 2, tmp_path, tmp_path / "again")


@pytest.fixture
def folder_params(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "images").mkdir()
    for index in range(9):
        picture = PilImage.fromarray(np.full((20, 30, 3), index, np.uint8))
        picture.save(tmp_path / f"images/{index}.png")
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    return {"data.images": str(tmp_path / "images"), "data.classes": str(tmp_path / "classes.txt")}


def test_a_folder_is_sampled_evenly_and_a_number_stands_for_more_of_it(
    folder_params: dict[str, str], tmp_path: Path
):
    params = load_params(REPOSITORY / "params.yaml", folder_params)
    found = samples_of(params, None, 3, tmp_path, tmp_path)
    assert found.train.measured(3) == ["0.png", "4.png", "8.png"]
    assert (found.train.images, found.train.disk_bytes, found.scored) == (9, 0, ())
    assert samples_of(params, "1000", 3, tmp_path, tmp_path).train.images == 1000
    labelled = load_params(
        REPOSITORY / "params.yaml", {**folder_params, "data.labels": str(tmp_path)}
    )
    found = samples_of(labelled, None, 20, tmp_path, tmp_path)
    assert found.scored[0].images == 9
    assert len(found.train.measured(20)) == 9


def test_images_that_cannot_be_used_are_not_measured(folder_params: dict[str, str], tmp_path: Path):
    for index in (0, 8):
        (tmp_path / f"images/{index}.png").write_text("no picture")
    params = load_params(REPOSITORY / "params.yaml", folder_params)
    train = samples_of(params, None, 3, tmp_path, tmp_path).train
    assert train.measured(3) == ["4.png"]
    (tmp_path / "images/4.png").write_text("no picture")
    with pytest.raises(DatasetError, match="of 3 images none can be used"):
        train.measured(3)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    params = load_params(REPOSITORY / "params.yaml", {"data.images": str(tmp_path / "none")})
    with pytest.raises(ParamsError, match="found no image"):
        samples_of(params, None, 1, tmp_path, tmp_path)
