import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools.coco import COCO

from fmbseg.align.head import AlignmentHead
from fmbseg.datasets import load
from fmbseg.miniature.world import SEEN_CLASS_NAMES, generate
from fmbseg.params import ParamsError
from fmbseg.segmenter import Segmenter
from fmbseg.steps import evaluate, pseudo_masks, student_labels, train
from fmbseg.steps.label_maps import NothingToTrainOnError, label_maps
from fmbseg.steps.plan import STEPS, run_step
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.student_labels import student_map
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_json
from fmbseg.types import IGNORE
from fmbseg.vocabulary import read_classes
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def run_all(workspace: Workspace) -> list[str]:
    """Names of the units that were computed."""
    return [
        name or step
        for step in STEPS
        for name, computed in run_step(workspace, step).items()
        if computed
    ]


@pytest.fixture(scope="module")
def finished(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on the miniature, finished, for the tests of this file to change."""
    return Path(shutil.copytree(small_run, tmp_path_factory.mktemp("finished") / "run"))


def test_every_step_leaves_what_the_next_one_and_the_user_need(finished: Path):
    workspace = Workspace.open(finished)
    shard = next(iter(shards(workspace)))
    for name in ("stage11.json", "stage12.json"):
        coco = COCO(str(workspace.pseudo_masks / shard / name))
        assert coco.getAnnIds()
        assert coco.annToMask(next(iter(coco.anns.values()))).shape == (128, 128)
    assert COCO(str(workspace.subsample / f"{shard}.json")).getAnnIds()
    metrics = read_json(workspace.evaluate / "fmbseg-miniature" / "metrics.json")
    assert list(metrics["iou"]) == list(SEEN_CLASS_NAMES)
    assert metrics["protocol_hash"]
    assert 0 <= metrics["miou"] <= 1
    page = (workspace.report / "index.html").read_text()
    assert "fmbseg" in page
    assert "know one small procedural world" in page, "the model card's caveat"
    assert "set models.profile: paper or base" in page, "without the card's own marks"


def test_a_second_run_computes_nothing_and_a_deleted_or_edited_unit_alone_comes_back(
    finished: Path,
):
    workspace = Workspace.open(finished)
    assert run_all(workspace) == []
    shard = list(shards(workspace))[1]
    shutil.rmtree(workspace.pseudo_masks / shard)
    assert run_all(workspace) == [shard]
    weights = workspace.train / "alignment.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before + b" ")
    assert run_all(workspace) == ["train"]
    assert weights.read_bytes() == before


def test_a_run_with_nothing_to_do_imports_no_model_library(finished: Path):
    code = f"""
        import sys
        import flows.pipeline
        from fmbseg.steps import plan, ready
        from fmbseg.steps.workspace import Workspace
        workspace = Workspace.open({str(finished)!r})
        assert ready.not_ready(workspace) is None
        for step in plan.STEPS:
            assert not any(plan.run_step(workspace, step).values()), step
        slow = {{"torch", "torchvision", "open_clip", "timm", "segment_anything", "transformers"}}
        print(*sorted(slow & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


def test_stages_1_and_2_give_the_same_bytes_with_all_label_files_absent(
    finished: Path, tmp_path: Path
):
    images = tmp_path / "images"
    first = Workspace.open(finished)
    shutil.copytree(first.images_root(), images)
    params = yaml.safe_load((finished / "params.yaml").read_text())
    params["data"] |= {"images": str(images), "classes": str(tmp_path / "classes.txt")}
    shutil.copyfile(first.classes_path(), tmp_path / "classes.txt")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = Workspace.open(tmp_path)
    run_all(workspace)
    assert evaluate.units(workspace) == []
    same = "alignment.safetensors"
    assert (workspace.train / same).read_bytes() == (first.train / same).read_bytes()
    assert (first.train / "validation.json").is_file(), "the miniature has labels"
    assert not (workspace.train / "validation.json").exists()
    assert "label" in (workspace.report / "index.html").read_text().lower()


def test_a_folder_of_hostile_files_runs_through_and_lists_each_bad_one(tmp_path: Path):
    images = tmp_path / "photos"
    images.mkdir()
    drawn = [Image.fromarray(item.image) for item in generate(5, 4, "test")]
    drawn[0].save(images / "Müller am See – Kopie.png")
    drawn[1].convert("CMYK").save(images / "cmyk.jpg")
    wide = np.asarray(drawn[2].convert("L"), np.uint16) * 257
    Image.fromarray(wide).save(images / "sixteen bit.png")
    drawn[3].save(images / "whole.jpg")
    (images / "cut.jpg").write_bytes((images / "whole.jpg").read_bytes()[:900])
    (images / "empty.png").touch()
    (images / "words.png").write_text("not a picture")
    Image.new("RGB", (1, 1)).save(images / "dot.png")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {"images": str(images), "classes": str(tmp_path / "classes.txt")}
    params["pseudo_masks"]["points_per_side"] = 6
    params["train"] |= {"epochs": 1}
    (tmp_path / "classes.txt").write_text("\n".join(SEEN_CLASS_NAMES))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = Workspace.open(tmp_path)
    run_all(workspace)
    reasons = {entry["image"]: entry["reason"] for entry in quarantined(workspace)}
    assert {"cut.jpg", "empty.png", "words.png"} <= set(reasons)
    assert all(reasons.values())
    good = {"Müller am See – Kopie.png", "cmyk.jpg", "sixteen bit.png", "whole.jpg"}
    assert not good & set(reasons)
    shard = next(iter(shards(workspace)))
    assert good <= set(read_json(workspace.pseudo_masks / shard / "presence.json"))
    page = (workspace.report / "index.html").read_text()
    assert all(name in page for name in reasons)


def test_only_bad_images_end_the_run_with_a_count_and_a_reason(small_workspace: Path):
    images = small_workspace / "bad"
    images.mkdir()
    (images / "a.png").write_text("no")
    params = yaml.safe_load((small_workspace / "params.yaml").read_text())
    params["data"] |= {"images": str(images), "classes": str(small_workspace / "classes.txt")}
    (small_workspace / "classes.txt").write_text("sky")
    (small_workspace / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(pseudo_masks.TooManyQuarantinedError, match="1 of 1 images"):
        run_all(Workspace.open(small_workspace))


def test_a_unit_follows_the_models_it_uses_and_no_other(finished: Path, tmp_path: Path):
    first = Workspace.open(finished)
    params = yaml.safe_load((finished / "params.yaml").read_text())
    params["models"]["vision"] = {"name": "vit_small_patch14_dinov2.lvd142m"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for folder in ("data", "models"):
        (tmp_path / folder).symlink_to(finished / folder)
    second = Workspace.open(tmp_path)
    shard = next(iter(shards(first)))
    assert pseudo_masks.key(first, shard) == pseudo_masks.key(second, shard)
    assert evaluate.key(first, "stage1-miniature") == evaluate.key(second, "stage1-miniature")
    assert train.key(first) != train.key(second)
    assert evaluate.key(first, "fmbseg-miniature") != evaluate.key(second, "fmbseg-miniature")


def test_the_trained_folder_predicts_classes_it_never_saw_in_training(finished: Path):
    segmenter = Segmenter.load(finished / "models" / "train", device="cpu")
    image = next(iter(generate(9, 1, "test"))).image[:96]
    found = segmenter.predict(image, ["balloon", "butterfly", "grass"])
    assert found.labels.shape == (96, 128)
    assert set(np.unique(found.labels)) <= {0, 1, 2}


def change(root: Path, section: str = "train", **values: object) -> Workspace:
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section] |= values
    path.write_text(yaml.safe_dump(params))
    return Workspace.open(root)


def test_a_ceiling_trains_on_the_labels_and_says_so(finished: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    workspace = change(copy, labels="truth")
    assert run_all(workspace)[0] == "train"
    assert read_json(workspace.train / "segmenter.json")["labels"] == "truth"
    weights = [root / "models" / "train" / "alignment.safetensors" for root in (copy, finished)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    label = next((workspace.download / "train" / "labels").iterdir())
    before = train.key(workspace).digest
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(label)
    run_step(workspace, "download")
    assert train.key(workspace).digest == before, "an edited unit is drawn anew"


def test_a_trained_model_names_sams_masks_and_is_trained_on_them(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    workspace = change(copy, labels="student", init_from=str(finished / "models" / "train"))
    model, maps = (
        Segmenter.load(finished / "models" / "train"),
        label_maps(workspace, student_map(workspace, finished / "models" / "train")),
    )
    labelled = agreed = 0
    for index, name in enumerate(maps.names):
        found, said = (
            maps.map_of(index),
            model.predict(
                workspace.read_image(name), read_classes(workspace.classes_path())
            ).labels,
        )
        labelled += int((found != IGNORE).sum())
        agreed += int((found == said)[found != IGNORE].sum())
    assert labelled > 0
    assert agreed > 0.6 * labelled, "masks say what most of their pixels are to the model"
    key = train.key(workspace)
    assert any(name.startswith("masks/") for name in key.inputs)
    assert run_all(workspace)[0] == "train"
    assert read_json(workspace.train / "segmenter.json")["labels"] == "student"
    strict = change(copy, min_agreement=1.0, seed=5)
    monkeypatch.setattr(student_labels, "voted_masks", lambda *given: [])
    with pytest.raises(NothingToTrainOnError, match=r"on none agrees 1 .*train\.min_agreement"):
        run_step(strict, "train")
    masks = next(workspace.pseudo_masks.glob("*/stage12.json"))
    masks.write_text(masks.read_text() + " ")
    assert train.key(Workspace.open(copy)).digest != key.digest


def test_a_student_without_a_model_to_start_from_is_refused(finished: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "copy")
    with pytest.raises(ParamsError, match=r"train\.labels: .*train\.init_from is null"):
        change(tmp_path / "copy", labels="student")


def test_training_has_a_validation_curve_where_labels_exist_and_the_same_weights(
    finished: Path, tmp_path: Path
):
    first = Workspace.open(finished)
    curve = read_json(first.train / "validation.json")
    assert [point["step"] for point in curve] == [1, 2, 3, 4, 5, 6]
    assert {point["images"] for point in curve} == {2}
    assert all(0 <= point["miou"] <= 1 for point in curve)
    last = scored(first, first.download / "val")
    assert curve[-1]["miou"] == pytest.approx(last, abs=1e-6), "as the saved model is scored"
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for images, wanted in ((0, None), (1, 1)):
        other = change(copy, validation_images=images)
        assert run_step(other, "train") == {"": True}
        file = other.train / "validation.json"
        assert (read_json(file)[0]["images"] if file.exists() else None) == wanted
        weights = [one.train / "alignment.safetensors" for one in (first, other)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def scored(workspace: Workspace, folder: Path) -> float:
    """mIoU of the trained model on labelled images, the slow way."""
    segmenter = Segmenter.load(workspace.train, device="cpu")
    samples = load("folder", folder, "val", class_names=SEEN_CLASS_NAMES)
    found = [
        (segmenter.predict(sample.image, SEEN_CLASS_NAMES).labels, sample.target)
        for sample in (samples[index] for index in range(len(samples)))
    ]
    ious = []
    for index in range(len(SEEN_CLASS_NAMES)):
        both = sum(((a == index) & (b == index)).sum() for a, b in found)
        either = sum((((a == index) | (b == index)) & (b != IGNORE)).sum() for a, b in found)
        if either:
            ious.append(both / either)
    return float(np.mean(ious))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_byte_of_the_training(
    workers: int, finished: Path, tmp_path: Path
):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    weights = copy / "models" / "train" / "alignment.safetensors"
    before = weights.read_bytes()
    other = change(copy, "runner", workers=workers)
    shutil.rmtree(other.train)
    assert run_all(other) == ["train"]
    assert weights.read_bytes() == before


def test_training_goes_on_from_the_folder_of_a_trained_model(finished: Path, tmp_path: Path):
    copy, base = tmp_path / "copy", finished / "models" / "train"
    shutil.copytree(finished, copy)
    workspace = change(copy, init_from=str(base), learning_rate=1e-9)
    assert run_step(workspace, "train") == {"": True}
    old, new = (AlignmentHead.load(one).state_dict() for one in (base, workspace.train))
    assert all(torch.allclose(old[name], new[name], atol=1e-5) for name in old)
    described = read_json(workspace.train / "segmenter.json")
    assert described["init_from"] == file_sha(base / "alignment.safetensors")
    assert run_step(workspace, "train") == {"": False}
