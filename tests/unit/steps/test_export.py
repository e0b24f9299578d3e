"""The step `export` and the commands `export` and `label`, on a finished small run."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fmbseg.cli import main
from fmbseg.corrections.store import read_correction, save_correction
from fmbseg.export.labelled import ExportError
from fmbseg.params import load_params
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.steps import export
from fmbseg.steps.plan import run_step, unit_named
from fmbseg.steps.review import queue_of
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco, read_json
from fmbseg.vocabulary import read_classes

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(scope="module")
def finished(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(small_run, tmp_path_factory.mktemp("exported") / "run"))


def asked(root: Path, **settings: object) -> Workspace:
    """The workspace with other values in the section `export`."""
    changes = {f"export.{name}": value for name, value in settings.items()}
    return Workspace(root, load_params(root / "params.yaml", changes))


def painted(workspace: Workspace, *files: str) -> dict[str, np.ndarray]:
    """Name of every image to the label map of the pseudo masks in these files."""
    found = {}
    for shard in shards(workspace):
        parts = [read_coco(workspace.pseudo_masks / shard / file) for file in files]
        masks = [part.by_image() for part in parts]
        for name, hw in parts[0].image_sizes_hw.items():
            found[name] = label_map_of([m for part in masks for m in part.get(name, [])], hw)
    return found


def test_label_pictures_hold_the_pseudo_masks_pixel_by_pixel(finished: Path):
    workspace = asked(finished, formats=["png"], source="all", images="leave")
    assert run_step(workspace, "export") == {"png": True}
    wanted = painted(workspace, "stage11.json", "stage12.json")
    out = workspace.exports / "png"
    for name, labels in wanted.items():
        file = (out / "labels" / name).with_suffix(".png")
        assert np.array_equal(np.asarray(Image.open(file)), labels), name
    facts = read_json(out / export.FACTS)
    assert facts["images"] == {"train": len(wanted)}
    pixels = np.concatenate([labels.ravel() for labels in wanted.values()])
    assert facts["labelled_fraction"] == pytest.approx((pixels != 255).mean(), abs=1e-6)
    assert set(facts["doubts"]) == set(wanted)
    found = facts["calibration"]
    assert found["images_fitted_on"] + found["images_measured_on"] == len(wanted)
    assert 0 <= found["expected_calibration_error"] <= 1
    raw = asked(finished, source="all", calibrate=False)
    assert export.key(raw, "png") != export.key(workspace, "png")
    assert "Most doubtful first" in (out / "index.html").read_text()
    assert run_step(workspace, "export") == {"png": False}


def test_the_key_holds_what_decides_an_export_and_nothing_of_training(finished: Path):
    plain = unit_named(asked(finished, source="all"), "export", "png").key()
    for name, value in {
        "source": "1.1", "val_fraction": 0.5, "min_confidence": 0.5, "classes": ["sky"],
        "unlabelled": "background", "images": "leave", "tolerance_px": 2.0,
    }.items():  # fmt: skip
        other = unit_named(asked(finished, **{"source": "all", name: value}), "export", "png")
        assert other.key() != plain, name
    more = unit_named(asked(finished, source="all", formats=["png", "coco"]), "export", "png")
    assert more.key() == plain, "another format is another unit"
    assert not any("train" in name for name in plain.inputs if name.startswith("models"))
    predicted = unit_named(asked(finished, source="predictions"), "export", "png").key()
    assert "alignment.safetensors" in predicted.inputs
    assert not any(name.startswith("pseudo_masks/") for name in predicted.inputs)


def test_what_a_person_edited_is_never_replaced(finished: Path, tmp_path: Path):
    workspace, out = asked(finished, source="1.1", images="leave"), tmp_path / "mine"
    export.run_into(workspace, "png", out)
    edited = min((out / "labels").rglob("*.png"))
    before = edited.read_bytes()
    edited.write_bytes(before + b" ")
    with pytest.raises(ExportError, match="was edited, and a new export would replace"):
        export.run_into(asked(finished, source="1.2", images="leave"), "png", out)
    assert edited.read_bytes() == before + b" "
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "photo.png").touch()
    with pytest.raises(ExportError, match="manifest is missing"):
        export.run_into(workspace, "png", tmp_path / "theirs")
    edited.write_bytes(before)
    (out / "labels" / "train.cache").touch()  # Ultralytics does
    assert export.run_into(asked(finished, source="1.2", images="leave"), "png", out), (
        "unedited ones are replaced"
    )


def test_export_on_the_command_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = [
        "export", "--workspace", str(finished), "--format", "coco", "--out", str(out),
        "--source", "predictions", "--keep", "ground=grass=sand=road", "--keep", "sky",
        "--val-fraction", "0.3", "--min-area", "0.001", "--place", "leave",
    ]  # fmt: skip
    assert main([*words, "--json"]) == 0
    document, said = capsys.readouterr()
    (told,) = json.loads(document)["exports"]
    assert (told["folder"], told["left_out"]) == (str(out), [])
    assert "labelled: " in said
    files = sorted(out.rglob("*.json"))
    cocos = [COCO(str(file)) for file in files if "annotations" in str(file)]
    assert {cat["name"] for coco in cocos for cat in coco.cats.values()} == {"ground", "sky"}
    facts = read_json(out / export.FACTS)
    assert facts["images"]["val"] > 0
    assert sum(len(coco.imgs) for coco in cocos) == sum(facts["images"].values())
    least = min(one["area"] for coco in cocos for one in coco.anns.values())
    assert least >= 0.001 * 128 * 128
    assert main(["export", "--workspace", str(tmp_path), "--format", "coco"]) == 2
    assert "found no params.yaml" in capsys.readouterr().err


def test_what_is_edited_comes_back_on_the_command_line_and_nothing_lies_beside_the_export(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    run = ["--workspace", str(finished), "--format", "labelme"]
    assert main(["export", *run, "--out", str(out), "--source", "1.1", "--place", "leave"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    workspace = Workspace.open(finished)
    name, other = sorted(workspace.listing().images)[:2]
    files = [(out / one).with_suffix(".json") for one in (name, other)]
    first = read_json(files[0])
    first["shapes"][0]["label"] = "car"
    files[0].write_text(json.dumps(first))
    words = ["import", str(out), *run, "--by", "anna"]
    capsys.readouterr()
    assert main([*words, "--dry-run", "--json"]) == 0
    document, words_said = capsys.readouterr()
    assert "1 corrections would be saved" in words_said
    assert json.loads(document)["changes"] == {"relabelled": 1}
    assert json.loads(document)["saved"] == [], "a dry run saves nothing"
    assert read_correction(workspace.corrections, name) is None
    assert main(words) == 0
    assert "  masks: 1 relabelled\n1 corrections saved in" in capsys.readouterr().out
    assert read_correction(workspace.corrections, name).regions[-1].class_name == "car"
    assert main(words) == 0
    assert "1 imported before\n0 corrections saved" in capsys.readouterr().out

    second = read_json(files[1])
    files[1].write_text(json.dumps(second | {"imageHeight": 1}))
    first["shapes"].pop()
    files[0].write_text(json.dumps(first))
    assert main(words) == 2
    said = capsys.readouterr()
    assert f"refused: {Path(other).stem}: found labels of" in said.out
    assert "1 images are refused, so nothing was imported" in said.err
    assert read_correction(workspace.corrections, name).revision == 1
    assert main([*words, "--skip-refused"]) == 0
    found = read_correction(workspace.corrections, name)
    assert found.revision == 2
    save_correction(workspace.corrections, found)
    files[0].write_text(json.dumps(first | {"shapes": []}))
    assert main([*words, "--skip-refused"]) == 3
    assert f"conflict, left alone (--on-conflict overwrite takes it): {name}" in (
        capsys.readouterr().out
    )
    for given in (["import", str(out / "none"), *run], ["import", str(finished), *run]):
        assert main(given) == 2
    shutil.rmtree(workspace.corrections)


def test_label_makes_masks_and_labels_and_a_later_run_finds_the_work(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    workspace = Workspace.open(finished)
    images = tmp_path / "my photos"
    images.mkdir()
    for index, name in enumerate(sorted(workspace.listing().images)[:3]):
        shutil.copyfile(workspace.image_path(name), images / f"a photo {index}.png")
    (images / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    words = ["label", "my photos", "--classes", "sky, grass=meadow, car"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "images: 3 in train" in said
    assert "left out broken.png: not a picture" in said
    assert "look at these first" in said
    assert (tmp_path / "labels" / "index.html").is_file()
    made = Workspace.open("runs/my photos")
    assert read_classes(made.classes_path()).names == ("sky", "grass", "car")
    named = [line[7:] for line in said.splitlines() if re.match(r"  \d\.\d\d a photo", line)]
    assert named == [entry.image for entry in queue_of(made)]
    assert run_step(made, "pseudo_masks") == dict.fromkeys(shards(made), False)
    assert main([*words, "--json"]) == 0
    document, said = capsys.readouterr()
    assert "up to date" in said
    told = json.loads(document)
    assert told["images"] == {"train": 3}
    assert told["left_out"][0]["image"] == "broken.png"
    assert [one["image"] for one in told["look_at_first"]] == named
