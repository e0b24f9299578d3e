"""`fmbseg estimate`: how near it comes, what it says about that, and what it refuses."""

import math
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from fmbseg.cli import main
from fmbseg.estimate.forecast import OBJECT_BYTES, forecast, whole_run
from fmbseg.estimate.measure import measure
from fmbseg.estimate.sample import data_sets_of
from fmbseg.methods.table import METHODS
from fmbseg.params import load_params
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.plan import units_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "voc99"], "--images: found 'voc99'; wanted one of voc21"),
        (["--images", "0"], "wanted at least 1"),
        (["--images", str(REPOSITORY)], "wanted --classes FILE"),
        (["--classes", "classes.txt"], "wanted --images FOLDER"),
        (["--sample", "0"], "--sample: wanted at least 1"),
        (["--workers", "0"], "--workers: wanted at least 1"),
        (["--params", "nothing.yaml"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["estimate", "--params", str(REPOSITORY / "params.yaml"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.weights
def test_a_stop_while_it_measures_is_one_line_and_leaves_no_file(
    small_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def stop(*inputs: object, **options: object) -> None:
        raise KeyboardInterrupt

    (small_workspace / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(small_workspace / "temporary"))
    monkeypatch.setattr("fmbseg.pseudo.shard.compute_shard", stop)
    assert main(["estimate", "--params", str(small_workspace / "params.yaml")]) == 130
    assert "stopped" in capsys.readouterr().err
    assert not list((small_workspace / "temporary").glob("fmbseg*")), "torch leaves a cache there"
    assert [path.name for path in small_workspace.glob("data*")] == []


@pytest.mark.weights
def test_the_command_says_what_was_measured_and_scales_it_to_as_many_images_as_asked_for(
    small_workspace: Path, capsys: pytest.CaptureFixture[str]
):
    params = str(small_workspace / "params.yaml")
    assert main(["estimate", "--params", params, "--images", "118287", "--sample", "2",
                 "--workers", "3", "--budget-seconds", "60"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "118,287 images, 14 classes" in out
    assert "all figures of the table are extrapolated" in out
    assert "3 workers" in out
    steps = (
        "download",
        "pseudo_masks",
        "subsample",
        "train",
        "evaluate",
        "stage1-miniature",
        "all",
    )
    for step in steps:
        assert any(line.split()[:1] == [step] for line in out.splitlines())
    assert "pseudo_masks: 2 of 118,287 images measured" in out
    assert "stage1-miniature: 2 of 6 images measured" in out
    assert "coarse" not in out


@pytest.mark.weights
def test_a_public_data_set_that_is_not_here_is_told_and_drawn_pictures_stand_for_it(
    small_workspace: Path, capsys: pytest.CaptureFixture[str]
):
    file = small_workspace / "params.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["evaluate"] |= {"methods": ["fmbseg"], "data_sets": ["home", "voc20"]}
    file.write_text(yaml.safe_dump(tree))
    assert main(["estimate", "--params", str(file), "--images", "voc20", "--sample", "1"]) == 0
    out = capsys.readouterr().out
    assert "1,464 images, 20 classes" in out
    assert "! voc20 is not here: drawn pictures of 640 x 480 px stand for it" in out
    assert "fmbseg-voc20: 1 of 1,449 images measured" in out
    assert "2.0 GB to fetch" in out


@pytest.mark.weights
def test_a_folder_of_images_and_a_class_list_are_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _, (home,) = data_sets_of(load_params(REPOSITORY / "params.yaml"), None, tmp_path)
    home.write(3, tmp_path / "photos")
    arguments = ["--images", str(tmp_path / "photos/images"), "--sample", "1"]
    arguments += ["--classes", str(tmp_path / "photos/classes.txt"), "--profile", "miniature"]
    assert main(["estimate", "--params", str(REPOSITORY / "params.yaml"), *arguments]) == 0
    out = capsys.readouterr().out
    assert f"images of {tmp_path}/photos/images: 3 images, 14 classes" in out
    assert "no labels, so nothing to score" in out
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["data"] |= {"images": arguments[1], "classes": arguments[5]}
    tree["data"]["labels"] = str(tmp_path / "photos/labels")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    assert main(["estimate", "--params", str(tmp_path / "params.yaml"), "--sample", "1"]) == 0
    assert "fmbseg-folder: 1 of 3 images measured" in capsys.readouterr().out


@pytest.mark.weights
def test_a_finished_run_has_nothing_left_and_a_lost_shard_counts_with_what_follows_from_it(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "ws"
    shutil.copytree(small_run, root)
    arguments = ["estimate", "--params", str(root / "params.yaml"), "--sample", "1"]
    assert main(arguments) == 0
    assert "all is up to date" in capsys.readouterr().out
    shutil.rmtree(sorted((root / "data/pseudo_masks").iterdir())[0])
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "pseudo_masks: 7 of 12 images computed already" in out
    assert "maskclip-miniature" not in out, "no evaluation before the training needs new masks"
    assert "fmbseg-miniature" in out


@pytest.mark.weights
def test_masks_in_memory_take_about_what_is_said_of_their_files(small_run: Path):
    folder = sorted((small_run / "data/pseudo_masks").iterdir())[0]
    files = [folder / "stage11.json", folder / "stage12.json"]
    read_coco(files[0])  # what is set up once is no part of it
    tracemalloc.start()
    kept = [read_coco(file) for file in files]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sum(len(one.masks) for one in kept) > 20
    written = sum(path.stat().st_size for path in folder.iterdir())
    assert OBJECT_BYTES / 2 < size / written < OBJECT_BYTES * 1.25


@pytest.mark.weights
def test_the_forecast_is_within_a_factor_of_what_the_run_takes(
    small_workspace: Path, tmp_path: Path
):
    workspace = Workspace.open(small_workspace)
    models_of(workspace)  # once a process, part of what a run takes around its steps
    seconds: dict[str, float] = {}
    for step in ("download", "pseudo_masks", "subsample", "train", "evaluate"):
        for unit in units_of(workspace, step):
            if unit.name.partition("-")[0] in ("foundation", "maskclip"):
                continue
            began = time.process_time()
            unit.run()
            name = unit.name if step == "evaluate" else step
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
    params = workspace.params
    train, scored = data_sets_of(params, None, small_workspace)
    figures = measure(Workspace(tmp_path, params), train, scored, 4, 60)
    rows = forecast(params, train, scored, figures, whole_run(params, train, scored), 1)
    found = {row.step.strip(): row.seconds or 0.0 for row in rows}
    for step in ("pseudo_masks", "stage1-miniature", "fmbseg-miniature"):
        assert 0.5 < found[step] / seconds[step] < 2, (step, found[step], seconds[step])


@pytest.mark.parametrize("profile", ["base", "paper"])
def test_missing_weights_are_said_and_known_times_are_taken_at_this_machines_pace(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    for name in ("HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["evaluate"] |= {"methods": [*METHODS], "data_sets": ["voc20", "home"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree | {"device": "cpu"}))
    arguments = ["estimate", "--params", str(tmp_path / "params.yaml"), "--profile", profile]
    assert main([*arguments, "--images", "coco_stuff171"]) == 0
    out = capsys.readouterr().out
    assert "118,287 images, 171 classes" in out
    assert f"profile {profile} on cpu" in out
    assert "! weights of clip, sam, vision are not here, so all is coarse" in out
    assert f"fmbseg download --weights {profile}" in out
    epochs = {"base": 30, "paper": 10}[profile]
    assert f"{epochs * math.ceil(118_287 / 5):,} steps" in out, "epochs: auto is the profile's"
    found = {line.split()[0]: line for line in reversed(out.splitlines()) if line}
    assert {"pseudo_masks", "subsample", "train", "evaluate", "all"} <= found.keys()
    assert {f"{name}-voc20" for name in ("foundation", *METHODS)} <= found.keys()
    assert "pseudo_masks: 0 of 118,287 images measured" in out
