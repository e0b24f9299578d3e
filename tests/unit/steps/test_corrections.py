"""Corrections enter: what is trained on, what is held out, what is left out and said so."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmbseg.cli import main
from fmbseg.corrections.store import (
    Change,
    CorrectedRegion,
    Correction,
    correction_file,
    now,
    read_correction,
    save_correction,
)
from fmbseg.params import load_params
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.steps import correction_figures, export, train
from fmbseg.steps.corrections import CORRECTIONS, Corrections, HeldOut
from fmbseg.steps.download import check
from fmbseg.steps.kept_masks import KeptMasks
from fmbseg.steps.label_maps import label_maps
from fmbseg.steps.plan import run_step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import encode_rles, read_json, unit_is_valid
from fmbseg.types import IGNORE
from tasks.tracking import run_figures
from tasks.tracking.facts import results


@pytest.fixture
def root(small_run: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "run"
    shutil.copytree(small_run, copied)
    return copied


def opened(root: Path, held_out: float = 0.0, **changes: Any) -> Workspace:
    changes = {"data.corrections_held_out_fraction": held_out, **changes}
    return Workspace(root, load_params(root / "params.yaml", changes))


def correct(workspace: Workspace, image: str, *names: str, **values: Any) -> Correction:
    """The upper half of an image belongs to the first name, all of it to the second, if any."""
    height, width = workspace.read_image(image).shape[:2]
    upper = np.zeros((2, height, width), bool)
    upper[0, : height // 2] = upper[1] = True
    regions = tuple(
        CorrectedRegion(name, rle, "person")
        for name, rle in zip(names, encode_rles(upper), strict=False)
    )
    given = {
        "image_sha": workspace.listing().images[image],
        "history": (Change("anna", now(), "review", "right now"),), **values,
    }  # fmt: skip
    old = read_correction(workspace.corrections, image)
    one = Correction(image, "", (height, width), ("sky", "tree"), regions, accepted=True)
    revision = 0 if old is None else old.revision
    return save_correction(workspace.corrections, replace(one, **given, revision=revision))


def images_of(workspace: Workspace) -> list[str]:
    return sorted(workspace.listing().images)


def test_an_accepted_correction_stands_in_place_of_all_pseudo_masks_and_weighs_more(root: Path):
    workspace = opened(root, **{"train.corrections_weight": 3.0})
    first, second, third, *_ = images_of(workspace)
    before = train.key(workspace).digest
    correct(workspace, first, "tree", "sky")
    correct(workspace, second, "sky", accepted=False)
    run_step(workspace, "download")
    maps = label_maps(workspace)
    names = Corrections.of(workspace).class_names
    found = maps.map_of(maps.names.index(first))
    half = len(found) // 2
    assert (found[:half] == names.index("tree")).all(), "where regions overlap the first one wins"
    assert (found[half:] == names.index("sky")).all()
    kept = KeptMasks(workspace)
    for name in (second, third):
        own = kept.of(name)
        painted = label_map_of(own.masks, own.size_hw)
        assert (maps.map_of(maps.names.index(name)) == painted).all(), "a draft is not used"
    assert maps.weights is not None
    assert {n for n, w in zip(maps.names, maps.weights, strict=True) if w == 3} == {first}
    assert train.key(workspace).digest != before


def test_a_run_sees_the_copy_it_made_and_training_what_a_correction_says_not_who_said_it(
    root: Path,
):
    workspace = opened(root)
    image = images_of(workspace)[0]
    saved = correct(workspace, image, "tree")
    run_step(workspace, "download")
    key = train.key(workspace).digest
    save_correction(workspace.corrections, saved.changed(Change("bob", now(), "review", "looked")))
    assert not unit_is_valid(workspace.downloads / CORRECTIONS, _download_key(workspace)), (
        "who looked is kept as well"
    )
    assert train.key(workspace).digest == key
    run_step(workspace, "download")
    assert train.key(workspace).digest == key
    correct(workspace, image, "sky")
    assert train.key(workspace).digest == key, "not seen before the next copy"
    run_step(workspace, "download")
    assert train.key(workspace).digest != key
    correct(workspace, image, "sky", accepted=False)
    run_step(workspace, "download")
    assert not Corrections.of(workspace)
    assert label_maps(workspace).weights is None


def _download_key(workspace: Workspace) -> Any:
    from fmbseg.steps.download import key

    return key(workspace, CORRECTIONS)


def test_held_out_images_are_never_trained_on_and_stay_held_out(root: Path):
    workspace = opened(root, 0.5)
    for image in images_of(workspace):
        correct(workspace, image, "tree", "unheard of")
    run_step(workspace, "download")
    found = Corrections.of(workspace)
    assert found.trained
    assert found.held_out
    assert {*found.trained, *found.held_out} == set(images_of(workspace))
    for labels in ("pseudo", "truth"):
        maps = label_maps(opened(root, 0.5, **{"train.labels": labels}))
        assert sorted(maps.names) == sorted(found.trained)
    assert not found.held_out.keys() & train.key(workspace).inputs.keys()
    more = Corrections.of(opened(root, 0.8, seed=5))
    assert found.held_out.keys() < more.held_out.keys(), "a larger share only adds images"
    samples = HeldOut(workspace)
    assert samples.names == tuple(sorted(found.held_out))
    target = samples[0].target
    assert target is not None
    assert set(np.unique(target)) == {samples.class_names.index("tree"), IGNORE}
    assert found.unknown_classes == ("unheard of",)
    assert "unheard of" in " ".join(found.words())


def test_a_correction_of_another_picture_is_left_out_and_said_so(root: Path):
    workspace = opened(root)
    image = images_of(workspace)[0]
    correct(workspace, image, "tree", image_sha="0" * 64)
    saved = correct(workspace, images_of(workspace)[1], "tree")
    gone = correction_file(workspace.corrections, "gone.png")
    gone.write_bytes(correction_file(workspace.corrections, saved.image).read_bytes())
    run_step(workspace, "download")
    found = Corrections.of(workspace)
    assert list(found.trained) == [saved.image]
    assert found.words() == [
        "correction of gone.png: the image is gone since it was corrected",
        f"correction of {image}: the image was replaced since it was corrected",
    ]


def test_a_folder_outside_the_workspace_must_be_there(root: Path, tmp_path: Path):
    elsewhere = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data\.corrections: no folder .*nowhere"):
        check(opened(root, **{"data.corrections": elsewhere}))


def test_a_run_scores_held_out_images_and_tells_before_from_after(root: Path, small_run: Path):
    changes = {"evaluate.methods": ["fmbseg"], "train.epochs": 1}
    workspace = opened(root, 0.5, **changes)
    for image in images_of(workspace)[:6]:
        correct(workspace, image, "tree", "sky")
    for step in ("download", "train", "evaluate", "report"):
        run_step(workspace, step)
    found = Corrections.of(workspace)
    assert found.trained
    assert found.held_out
    weights = "alignment.safetensors"
    before = (small_run / "models/train" / weights).read_bytes()
    assert (root / "models/uncorrected" / weights).read_bytes() == before
    assert (root / "models/train" / weights).read_bytes() != before
    scored = read_json(workspace.evaluate / "fmbseg-corrections" / "metrics.json")
    assert (scored["split"], scored["images"]) == ("held-out", len(found.held_out))
    numbers = read_json(workspace.report / "details.json")
    told = numbers["corrections"]
    assert told["miou"] == numbers["miou"]["fmbseg-corrections"] == scored["miou"]
    assert 0 <= told["miou_before"] <= 1
    assert (told["trained_on"], told["held_out"]) == (len(found.trained), len(found.held_out))
    assert run_figures.of_run(workspace)["corrections.miou_before"] == told["miou_before"]
    (result,) = (one for one in results(workspace) if one.name == "fmbseg.corrections")
    in_run = run_figures.of_result_in_run(result, classes=True)
    assert in_run["miou.fmbseg.corrections"] == scored["miou"]
    page = (workspace.report / "index.html").read_text()
    assert f"People put {len(found.trained) + len(found.held_out)} images right" in page
    assert "Where pseudo masks were wrong" in page
    done = {step: run_step(workspace, step) for step in ("train", "evaluate", "report")}
    assert not any(any(units.values()) for units in done.values()), "a re-run computes nothing"
    assert set(train.key(workspace).inputs) >= {f"/corrections/{name}" for name in found.trained}
    again = opened(root, 0.5, **{**changes, "train.corrections_weight": 2.0})
    run_step(again, "train")
    assert (root / "models/uncorrected" / weights).read_bytes() == before, "still the last without"


def test_what_pseudo_masks_had_wrong_is_counted_class_by_class(root: Path):
    workspace = opened(root)
    image = images_of(workspace)[0]
    one = correct(workspace, image, "tree")
    run_step(workspace, "download")
    found = correction_figures.facts(workspace)
    assert found is not None
    (tree,) = found.classes
    own = KeptMasks(workspace).of(image)
    pseudo, half = label_map_of(own.masks, own.size_hw), one.image_hw[0] // 2
    right = (pseudo[:half] == Corrections.of(workspace).class_names.index("tree")).mean()
    assert (tree.name, tree.pixels) == ("tree", half * one.image_hw[1])
    assert tree.wrong == pytest.approx(1 - right)
    assert found.right == pytest.approx(right)
    assert found.invented == pytest.approx((pseudo[half:] != IGNORE).sum() / pseudo.size)


@pytest.mark.parametrize("source", ["kept", "predictions"])
def test_exports_hold_what_people_left_with_who_labelled_it(
    root: Path, tmp_path: Path, source: str
):
    image = images_of(opened(root))[0]
    correct(opened(root), image, "tree", "gone")
    command = ["export", "--workspace", str(root), "--format", "coco", "--source", source,
               "--min-confidence", "0.99", "--place", "leave", "--out"]  # fmt: skip
    assert main([*command, str(tmp_path / "out")]) == 0
    coco = read_json(tmp_path / "out" / "annotations" / "instances_train.json")
    (number,) = [one["id"] for one in coco["images"] if Path(one["file_name"]).name == image]
    (region,) = [one for one in coco["annotations"] if one["image_id"] == number]
    assert region["origin"] == "person"
    assert "score" not in region
    half = read_correction(root / "data/corrections", image)
    assert half is not None
    assert region["segmentation"]["counts"] == half.regions[0].rle["counts"]
    facts = read_json(tmp_path / "out" / "export.json")
    assert (facts["corrected_images"], facts["origins"]["person"]) == (1, 1)
    assert facts["doubts"][image] == 0, "a person looked at it"
    assert main([*command, str(tmp_path / "plain"), "--no-corrections"]) == 0
    assert "person" not in read_json(tmp_path / "plain" / "export.json")["origins"]
    plain = opened(root, **{"export.corrections": False, "export.source": source})
    assert export.key(plain, "png") != export.key(opened(root, **{"export.source": source}), "png")
    assert not any(name.startswith("/corr") for name in export.key(plain, "png").inputs)
