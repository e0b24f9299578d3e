"""`fmbseg adapt`: a trained folder goes on with a folder of photographs."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from fmbseg.cli import main
from fmbseg.datasets.miniature_views import MiniatureView
from fmbseg.segmenter import Segmenter
from tests.support.trained_folder import trained_folder

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def test_a_model_goes_on_with_other_images(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = MiniatureView("miniature_unseen", "train", count=3, seed=0)
    Path("photos").mkdir()
    for index in range(3):
        Image.fromarray(drawn[index].image).save(f"photos/{index}.png")
    model = trained_folder(tmp_path / "model")
    before = (model / "alignment.safetensors").read_bytes()
    words = ["adapt", "photos", "--classes", "sky, grass, butterfly=moth", "--model", "model",
             "--epochs", "1", "--json"]  # fmt: skip
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    params = yaml.safe_load(Path("runs/photos-adapted/params.yaml").read_text())
    assert params["train"]["labels"] == "student"
    assert params["train"]["init_from"] == str(model)
    assert params["models"]["profile"] == "miniature"
    adapted = Segmenter.load(said["model"])
    assert adapted.trained_classes == ("sky", "grass", "butterfly")
    assert (Path(said["model"]) / "alignment.safetensors").read_bytes() != before
    assert (model / "alignment.safetensors").read_bytes() == before
    assert main(words) == 0, "a second call has nothing to do"


def test_paths_that_nobody_vouches_for_are_not_opened(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    model = trained_folder(tmp_path / "model")
    described = json.loads((model / "segmenter.json").read_text())
    described["models"]["sam"] = {"checkpoint": "/elsewhere/sam.pt"}
    (model / "segmenter.json").write_text(json.dumps(described))
    assert main(["adapt", "photos", "--classes", "sky", "--model", "model"]) == 2
    assert "outside the trained folder" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_it_says_what_is_missing(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", "photos", "--classes", "sky", "--model", "none"]) == 2
    assert "no trained model in none" in capsys.readouterr().err
