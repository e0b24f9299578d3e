"""The card says what the run knows of these very weights, and nothing of other ones."""

import json
import shutil
from pathlib import Path

from fmbseg.models.settings import ModelsParams
from fmbseg.steps.published import card_facts, write_for_hub
from fmbseg.store import file_sha, write_json
from tests.conftest import REPOSITORY
from tests.support.trained_folder import TRAINED, trained_folder

PROTOCOL = {"protocol": {"name": "whole"}, "protocol_hash": "53ef61131d"}


def run(root: Path, classes: dict[str, float | None], *, of: str | None = None) -> Path:
    """A workspace with a trained folder and one evaluation of weights with the hash `of`."""
    root.mkdir()
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    folder = trained_folder(root / "models" / "train", vocabulary=TRAINED)
    inputs = {
        "a/one.jpg": "1", "two.jpg": "2", "/corrections/two.jpg": "3", "classes": "4",
        "kept/0000": "5", "init_from": "6",
    }  # fmt: skip
    params = {"loss": "prototype_supcon", "epochs": 30}
    write_json(folder / "manifest.json", {"parts": {"inputs": inputs, "params": params}})
    unit = root / "reports" / "evaluate" / "fmbseg-folder"
    made_from = of or file_sha(folder / "alignment.safetensors")
    write_json(unit / "manifest.json", {"parts": {"inputs": {"train": made_from}}})
    metrics = {
        "method": "fmbseg", "data_set": "folder", "split": "val", "images": 40, "miou": 0.5,
        "iou": classes, "seed": 0, **PROTOCOL,
    }  # fmt: skip
    write_json(unit / "metrics.json", metrics)
    return folder


def published(folder: Path, out: Path) -> str:
    write_for_hub(folder, "owner/name", out, named={}, licence=None)
    return (out / "README.md").read_text()


def test_figures_and_iou_of_every_class_stand_in_the_card_and_the_protocol_in_the_config(
    tmp_path: Path,
):
    folder = run(tmp_path / "run", {"sky": 0.75, "grass": 0.25, "tree|<b>": None})
    text = published(folder, tmp_path / "out")
    assert "| folder | val | 40 | 0.500 | `whole` 53ef61131d | 0 |" in text
    assert text.index("| sky | 0.750 |") < text.index("| grass | 0.250 |")
    assert "| tree&#124;&#60;b&#62; | not there |" in text
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said["protocol"] == {"name": "whole", "hash": "53ef61131d"}


def test_figures_of_other_weights_are_left_out(tmp_path: Path):
    folder = run(tmp_path / "run", {"sky": 0.75}, of="0" * 64)
    text = published(folder, tmp_path / "out")
    assert "0.750" not in text
    assert "no evaluation of these weights" in text


def test_training_is_told_without_names_of_images(tmp_path: Path):
    text = published(run(tmp_path / "run", {"sky": 1.0}), tmp_path / "out")
    assert "Trained on 2 images. People put 1 of them right." in text
    assert "grass (lawn, meadow)" in text
    assert "`epochs` 30" in text
    assert "one.jpg" not in text + (tmp_path / "out" / "config.json").read_text()


def test_a_trained_folder_alone_has_a_card_too(tmp_path: Path):
    folder = trained_folder(tmp_path / "elsewhere")
    section = ModelsParams.model_validate(
        json.loads((folder / "segmenter.json").read_text())["models"]
    )
    facts = card_facts(folder, "owner/name", section, None)
    assert facts.images is None
    assert facts.scores == ()
