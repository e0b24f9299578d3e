"""`fmbseg estimate`: how near it comes, what it counts and what it says about that."""

import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
import yaml

from fmbseg.cli import main
from fmbseg.datasets.miniature import MiniatureDataset
from fmbseg.estimate.coarse import coarse
from fmbseg.estimate.forecast import FLOW_BYTES, OBJECT_BYTES, Row, forecast, whole_run
from fmbseg.estimate.measure import Bench, Figures, measure
from fmbseg.estimate.sample import DataSet, data_sets_of
from fmbseg.estimate.table import human_time, lines
from fmbseg.methods.table import METHODS
from fmbseg.params import Params, load_params
from fmbseg.steps.plan import units_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco
from fmbseg.vocabulary import Vocabulary

REPOSITORY = Path(__file__).parents[3]


def a_set(images: int, disk_bytes: int = 0, *, here: bool = True, **archives: int) -> DataSet:
    samples, classes = MiniatureDataset("test", count=1), Vocabulary(("x",))
    return DataSet("voc20", "t", samples, classes, images, disk_bytes, archives, here)


FIGURES = Figures(
    seconds={
        "pseudo_masks": 3.0, "subsample": 0.5, "features": 2.0, "step": 10.0, "validation": 0.5,
        "foundation-voc20": 1.0, "stage1-voc20": 4.0, "fmbseg-voc20": 1.0,
    },
    sizes={"masks": 11.0, "kept": 4.0, "features": 100.0, "model": 500.0},
    idle_bytes=1000, work_bytes=4000, models_s=6.0, images=2,
)  # fmt: skip


def table(params: Params, train: DataSet, *scored: DataSet, left: dict[str, int] | None = None,
          workers: int = 2) -> dict[str, Row]:  # fmt: skip
    left = whole_run(params, train, scored) if left is None else left
    rows = forecast(params, train, scored, FIGURES, left, workers)
    return {row.step.strip(): row for row in rows}


def params_with(**values: object) -> Params:
    changes = {"evaluate.methods": ["stage1"], "train.validation_images": 0, **values}
    return load_params(REPOSITORY / "params.yaml", changes)


def test_the_steps_are_scaled_as_the_pipeline_runs_them():
    params = params_with(**{
        "data.shard_images": 4, "train.epochs": 6, "train.batch_images": 4,
        "train.feature_cache_gb": 350 / 1e9,
    })  # fmt: skip
    by = table(params, a_set(10, 1234, a=100, b=50), a_set(5, here=False, b=50, c=7))
    assert by["download"].seconds is None
    assert by["download"].disk_bytes == 1234 + 157, "an archive of both is fetched once"
    assert "57 B to fetch" in by["download"].basis
    stage1 = by["pseudo_masks"]
    assert stage1.seconds == 6 + 10 * 3, "the models are built once"
    assert stage1.many_s == 6 + 8 * 3, "shards of 4, 4 and 2 images, two of them at once"
    assert stage1.disk_bytes == 110
    assert "2 of 10 images measured" in stage1.basis
    assert by["subsample"].seconds == 5
    # 3 of 10 features fit the cache: those once, the other 7 in all 6 epochs, one at a time.
    train = by["train"]
    assert train.seconds == train.many_s == (3 + 6 * 7) * 2 + 6 * 3 * 10
    assert "45 encodings" in train.basis
    assert "18 steps" in train.basis
    times = {"foundation-voc20": 5, "stage1-voc20": 20}
    assert {unit: by[unit].seconds for unit in times} == times
    assert by["evaluate"].seconds == sum(times.values())
    assert by["evaluate"].many_s == 20, "a unit is not shared"
    whole = by["all"]
    assert whole.seconds == 36 + 5 + train.seconds + sum(times.values())
    assert whole.disk_bytes == 1234 + 157 + 110 + 40 + 500
    cached = table(params_with(**{"train.epochs": 6}), a_set(10))["train"]
    assert cached.seconds == 10 * 2 + 6 * 2 * 10
    assert cached.many_s == 10 * 2 / 2 + 6 * 2 * 10, "features that fit are encoded side by side"


def test_the_memory_is_that_of_all_that_runs_in_one_process_at_a_time():
    for kind, at_once in (("threads", 2), ("dask", 1)):
        by = table(params_with(**{"runner.kind": kind}), a_set(5), a_set(5))
        process = 1000 + FLOW_BYTES + at_once * 4000
        assert by["pseudo_masks"].memory_bytes == by["evaluate"].memory_bytes == process
        assert by["subsample"].memory_bytes == process + OBJECT_BYTES * 5 * 11
        held = 5 * 100 + OBJECT_BYTES * 5 * 4
        assert by["train"].memory_bytes == by["all"].memory_bytes == process + held


def test_the_training_is_validated_where_there_are_labels():
    params = params_with(**{
        "train.epochs": 12, "train.batch_images": 5, "train.validation_images": 4,
    })  # fmt: skip
    without, three, four = (
        table(params, a_set(10), *scored)["train"].seconds or 0.0
        for scored in ((), (a_set(3),), (a_set(9),))
    )
    assert three == without + 3 * (2 + 8 * 0.5), "24 steps, at every third of them"
    assert four == without + 4 * (2 + 8 * 0.5), "not more than asked for"


def test_what_is_computed_does_not_count():
    left = {"pseudo_masks": 6, "train": 10, "foundation-voc20": 5}
    by = table(params_with(), a_set(10, 1234), a_set(5), left=left, workers=1)
    assert by["download"].disk_bytes == 0
    assert by["pseudo_masks"].seconds == 6 + 6 * 3
    assert "4 of 10 images computed already" in by["pseudo_masks"].basis
    assert by["pseudo_masks"].disk_bytes == 6 * 11
    assert (by["subsample"].seconds, by["subsample"].basis) == (0, "computed already")
    assert "stage1-voc20" not in by
    assert by["all"].seconds == 24 + by["train"].seconds + 5


def test_without_labels_nothing_is_scored():
    by = table(params_with(), a_set(10))
    assert by["evaluate"].seconds == 0
    assert "no labels" in by["evaluate"].basis


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.04, "0.0 s"), (9.96, "10.0 s"), (35, "35 s"), (119, "119 s"),
     (150, "2.5 min"), (600, "10 min"), (7200, "2.0 h"), (36 * 3600, "36.0 h"),
     (10 * 86400, "10.0 days"), (200 * 86400, "200 days"), (800 * 86400, "2.2 years")],
)  # fmt: skip
def test_durations_are_written_as_people_say_them(seconds: float | None, words: str):
    assert human_time(seconds) == words


def test_the_table_has_a_line_a_step_and_one_for_its_basis():
    rows = [Row("train", 60.0, 60.0, 5e6, 2e9, "why"), Row("  part", 5.0, None, 0, 0, "how")]
    found = lines(rows, 8)
    assert found[0].split() == ["step", "1", "worker", "8", "workers", "disk", "memory"]
    assert found[1].split() == ["train", "60", "s", "60", "s", "5.0", "MB", "2.0", "GB"]
    assert found[2].split() == ["part", "5.0", "s", "-", "-", "-"]
    assert len({len(line) for line in found[:3]}) == 1
    assert found[-2:] == ["train: why", "part: how"]
    assert lines(rows, 1)[1].split() == ["train", "60", "s", "5.0", "MB", "2.0", "GB"]


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
    _, (home,) = data_sets_of(params_with(), None, tmp_path)
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
    figures = measure(Bench(tmp_path, params, torch.device("cpu")), train, scored, 4, 60)
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
    found = {line.split()[0]: line for line in reversed(out.splitlines()) if line}
    assert {"pseudo_masks", "subsample", "train", "evaluate", "all"} <= found.keys()
    assert {f"{name}-voc20" for name in ("foundation", *METHODS)} <= found.keys()
    assert "pseudo_masks: coarse: known times" in out


def test_the_known_times_are_those_of_the_machine_they_were_taken_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """docs/performance.md: CamVid, a grid of 8 x 8 points, `base`, seconds of a processor core."""
    params = params_with(**{
        "models.profile": "base", "pseudo_masks.points_per_side": 8,
        "evaluate.methods": ["maskclip", "fmbseg"],
    })  # fmt: skip
    for slower in (1.0, 2.0):
        monkeypatch.setattr("fmbseg.estimate.coarse._slower", lambda bench, slower=slower: slower)
        figures = coarse(Bench(tmp_path, params, torch.device("cpu")), [a_set(5)])
        measured = {"pseudo_masks": 267, "maskclip-voc20": 76, "fmbseg-voc20": 27}
        for name, seconds in measured.items():
            assert 0.8 < figures.seconds[name] * 5 / slower / seconds < 1.25, name
    assert figures.images == 0


def test_the_budget_decides_how_many_images_are_measured_after_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    clock, asked = [0.0], list[int]()

    def ten_seconds(*inputs: object) -> tuple[dict[str, float], dict[str, float], int]:
        asked.append(int(inputs[3]))  # type: ignore[call-overload]
        clock[0] += 10.0 * asked[-1]
        return {}, {}, asked[-1]

    monkeypatch.setattr("fmbseg.estimate.measure._measure", ten_seconds)
    monkeypatch.setattr("fmbseg.estimate.measure.models_of", lambda workspace: None)
    monkeypatch.setattr(Bench, "clock", lambda self: clock[0])
    for budget, wanted in ((5.0, [1]), (25.0, [1]), (35.0, [1, 2]), (1e9, [1, 4])):
        asked.clear()
        bench = Bench(tmp_path, params_with(), torch.device("cpu"))
        assert measure(bench, a_set(9), (), 4, budget).images == wanted[-1]
        assert asked == wanted


def test_the_device_is_waited_for_before_the_clock_is_read(monkeypatch: pytest.MonkeyPatch):
    waits: list[str] = []
    monkeypatch.setattr("torch.accelerator.synchronize", lambda: waits.append("cuda"))
    Bench(Path(), params_with(), torch.device("cuda")).seconds(lambda: waits.append("work"))
    assert waits == ["cuda", "work", "cuda"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is held is known there")
def test_the_memory_of_a_process_is_what_it_holds_and_the_most_that_it_held():
    script = (
        "import numpy as np\n"
        "from fmbseg.estimate.memory import held_bytes, peak_bytes\n"
        "low = held_bytes()\n"
        "block = np.ones(200_000_000, np.uint8)\n"
        "high = held_bytes()\n"
        "del block\n"
        "print(high - low, held_bytes() - low, peak_bytes() - low)\n"
    )  # in a process of its own: here, memory that other tests left would be used again
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    held, after, most = map(int, run.stdout.split())
    assert 190e6 < held < 260e6
    assert after < 60e6
    assert 190e6 < most < 260e6
