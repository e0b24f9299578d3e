"""`fmbseg estimate`: how figures are extrapolated and what is said about them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fmbseg.cli import main
from fmbseg.estimate.evaluation import Scored
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Meter, Rate, Work
from fmbseg.estimate.project import Row, basis, project, total
from fmbseg.estimate.runs import Runs
from fmbseg.estimate.sample import Sample, Samples
from fmbseg.estimate.schedule import FLOW_BYTES
from fmbseg.estimate.table import human_time, lines
from fmbseg.params import load_params
from fmbseg.steps.columns import Column
from fmbseg.vocabulary import Vocabulary

REPOSITORY = Path(__file__).parents[1]


def rate(seconds: float, units: int = 2, peak: int = 10) -> Rate:
    return Rate(seconds, units, {}, peak)


FIGURES = Figures(
    base_bytes=1000, models_s=6.0, texts_s=7.0, stage1=rate(3.0, peak=5000), stage1_bytes=11.0,
    subsample=rate(0.5), kept_bytes=4.0, masks_memory_bytes=20.0, kept_memory_bytes=6.0,
    encode=rate(2.0, peak=3000), feature_bytes=100.0, labels=rate(0.25), label_bytes=8.0,
    step=rate(10.0, units=3, peak=2000), validation=rate(0.5), model_bytes=500,
    scored=(
        Scored("foundation-voc20", rate(1.0), 5), Scored("maskclip-voc20", rate(2.0), 5),
        Scored("stage1-voc20", rate(4.0, peak=9), 5),
    ),
    guessed_labels=False,
)  # fmt: skip


def a_sample(images: int, disk_bytes: int = 0, note: str = "", **archives: int) -> Sample:
    column = Column("voc20", "val", None, Vocabulary(("x",)))  # type: ignore[arg-type]
    return Sample("t", column, images, disk_bytes, archives, note)


SAMPLES = Samples(a_sample(10, 1234, a=100, b=50), (a_sample(5, note="absent", b=50, c=7),))


def test_the_steps_are_scaled_as_the_pipeline_runs_them():
    params = load_params(
        REPOSITORY / "params.yaml",
        {"data.shard_images": 4, "train.epochs": 6, "train.batch_images": 4,
         "train.feature_cache_gb": 350 / 1e9},
    )  # fmt: skip
    rows = project(params, SAMPLES, FIGURES, workers=2)
    by = {row.step.strip(): row for row in rows}
    assert by["download"].seconds is None
    assert by["download"].disk_bytes == 1234 + 157, "an archive of both is fetched once"
    assert "57 B to fetch" in by["download"].basis
    stage1 = by["pseudo_masks"]
    assert stage1.seconds == 6 + 7 + 10 * 3, "the models are built first"
    assert stage1.seconds_many == 6 + 7 + 4 * 3 + 2 * 3, (
        "shards of 4, 4 and 2 images by two workers"
    )
    assert stage1.disk_bytes == 110
    assert stage1.memory_bytes == 1000 + FLOW_BYTES + 2 * 4000, "two shards in one process"
    assert by["subsample"].seconds == 5
    assert by["subsample"].memory_bytes == 1000 + FLOW_BYTES + 200
    # 3 of 10 features fit the cache: those once, the other 7 in all 6 epochs, none before.
    train = by["train"]
    assert train.seconds == 7 + (3 + 6 * 7) * 2 + 10 * 0.25 + 6 * 3 * 10
    halved = 10 * 0.25 / 2
    assert train.seconds_many == train.seconds - halved, "labels by two workers"
    # One image is encoded at a time (2000 above the models' 1000); the evaluation `stage1`
    # is still under way beside it, and takes no more than the models do.
    assert train.memory_bytes == 3000 + FLOW_BYTES + 3 * 100 + 10 * (6 + 8)
    assert "45 encodings" in train.basis
    assert "18 steps" in train.basis
    times = {"foundation-voc20": 5 + 7, "maskclip-voc20": 10 + 7, "stage1-voc20": 20 + 7}
    assert {unit: by[unit].seconds for unit in times} == times
    assert by["evaluate"].seconds == sum(times.values())
    assert by["evaluate"].seconds_many == 0, "all of them end before the training does"
    assert by["stage1-voc20"].memory_bytes == 9
    whole = total(rows)
    assert whole.seconds == 43 + 5 + train.seconds + 56
    assert whole.seconds_many == 31 + 5 + train.seconds_many
    assert whole.memory_bytes == stage1.memory_bytes
    assert whole.disk_bytes == 1234 + 157 + 110 + 40 + 500


def test_the_memory_is_that_of_all_that_runs_in_one_process_at_a_time():
    figures = replace(FIGURES, scored=(
        Scored("foundation-a", rate(1.0, peak=3000), 5),
        Scored("stage1-a", rate(4.0, peak=6000), 5),
        Scored("fmbseg-a", rate(1.0, peak=2500), 5),
    ))  # fmt: skip
    samples = replace(SAMPLES, train=a_sample(5))
    memory: dict[str, dict[str, float | None]] = {}
    for kind in ("threads", "dask"):
        params = load_params(REPOSITORY / "params.yaml", {"runner.kind": kind})
        rows = project(params, samples, figures, workers=2)
        memory[kind] = {row.step.strip(): row.memory_bytes for row in rows}
    threads, dask = memory["threads"], memory["dask"]
    idle = 1000 + FLOW_BYTES
    # One shard of 5 images at 3 s; beside it foundation (12 s) and then stage 1's own evaluation.
    assert threads["pseudo_masks"] == idle + 4000 + 5000
    assert dask["pseudo_masks"] == idle + 4000
    assert threads["train"] > dask["train"], "the evaluation stage1 goes on beside the training"
    assert dask["evaluate"] == idle + 5000


def test_the_training_is_validated_where_there_are_labels():
    params = load_params(
        REPOSITORY / "params.yaml",
        {"train.epochs": 12, "train.batch_images": 5, "train.validation_images": 4},
    )
    found = []
    for labelled in (0, 3, 9):
        rows = project(params, replace(SAMPLES, labelled=labelled), FIGURES, workers=1)
        found.append(next(row for row in rows if row.step == "train"))
    without, three, four = found
    assert without.seconds is not None
    assert three.seconds == without.seconds + 3 * (2 + 8 * 0.5), "24 steps, at every third of them"
    assert four.seconds == without.seconds + 4 * (2 + 8 * 0.5), "not more than asked for"
    assert without.memory_bytes is not None
    assert three.memory_bytes == without.memory_bytes + 3 * 100
    assert "8 validations on 3 images in 18 s" in three.basis


def test_work_timed_in_an_earlier_step_is_said_as_such():
    work = {"SAM decoder prompts": Work(3078, 0, 0.0), "CLIP blocks": Work(64, 3, 1.0)}
    assert basis(Rate(1.0, 2, work, 0), 5) == (
        "2 of 5 images measured in part (3,078 SAM decoder prompts at the pace timed in an "
        "earlier step, 3 of 64 CLIP blocks timed)"
    )


def test_without_labels_nothing_is_scored():
    params = load_params(REPOSITORY / "params.yaml")
    figures = replace(FIGURES, scored=())
    rows = project(params, replace(SAMPLES, scored=()), figures, workers=1)
    assert rows[-1].seconds is None
    assert "no labels" in rows[-1].basis


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (35, "35 s"), (119, "119 s"), (600, "10 min"),
     (7200, "2.0 h"), (36 * 3600, "36.0 h"), (10 * 86400, "10.0 days"), (200 * 86400, "200 days"),
     (800 * 86400, "2.2 years")],
)  # fmt: skip
def test_durations_are_written_as_people_say_them(seconds: float, words: str):
    assert human_time(seconds) == words


def test_the_table_has_a_line_a_step_and_one_for_its_basis():
    rows = [Row("train", 60.0, 60.0, 5e6, 2e9, "why"), Row("  part", 5.0, None, 0, None, "how")]
    found = lines(rows, 8)
    assert found[0].split() == ["step", "1", "worker", "8", "workers", "disk", "memory"]
    assert found[1].split() == ["train", "60", "s", "60", "s", "5.0", "MB", "2.0", "GB"]
    assert found[2].split() == ["part", "5.0", "s", "-", "-", "-"]
    assert len({len(line) for line in found[:3]}) == 1
    assert found[-2:] == ["train: why", "part: how"]
    assert lines(rows, 1)[0].split() == ["step", "1", "worker", "disk", "memory"]
    assert lines(rows, 1)[1].split() == ["train", "60", "s", "5.0", "MB", "2.0", "GB"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "voc99"], "--images: found 'voc99'; wanted one of voc21"),
        (["--images", "0"], "wanted at least 1"),
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
def test_the_command_prints_a_table_for_as_many_images_as_asked_for(
    small_workspace: Path, capsys: pytest.CaptureFixture[str]
):
    params = str(small_workspace / "params.yaml")
    assert main(["estimate", "--params", params, "--images", "118287", "--sample", "1",
                 "--workers", "3", "--budget-seconds", "30"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "118,287 images, 14 classes" in out
    assert "all figures of the table are extrapolated" in out
    assert "3 workers" in out
    for step in (
        "download",
        "pseudo_masks",
        "subsample",
        "train",
        "evaluate",
        "stage1-miniature",
        "all",
    ):
        assert any(line.split()[:1] == [step] for line in out.splitlines())
    assert "pseudo_masks: 1 of 118,287 images measured whole" in out
    assert "random" not in out


@pytest.mark.weights
def test_missing_weights_are_said_and_random_ones_are_timed_within_the_budget(
    small_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    import json

    from fmbseg.miniature.sam_architecture import build_sam_from_config
    from fmbseg.models.weights import MINIATURE_FOLDER

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config = json.loads((MINIATURE_FOLDER / "sam/sam_config.json").read_text())
    registry = {"vit_b": lambda: build_sam_from_config(config)}
    monkeypatch.setattr("fmbseg.models.sam.sam_model_registry", registry)
    file = small_workspace / "params.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["models"] |= {"sam": {"name": "vit_b"}, "vision": {"name": "vit_tiny_patch16_224"}}
    file.write_text(yaml.safe_dump(tree))
    assert main(["estimate", "--params", str(file), "--images", "voc20", "--sample", "2",
                 "--budget-seconds", "1", "--root", str(tmp_path)]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "weights of sam, vision are not here: random ones" in out
    assert "drawn pictures of 500 x 375 px stand for it" in out
    assert "discs an image" in out
    assert "measured in part" in out
    assert "work beyond the budget was counted, not done" in out


@pytest.mark.e2e
@pytest.mark.timeout(1500)
def test_the_papers_plan_says_what_was_measured_and_what_extrapolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The real architectures, ViT-H and two ViT-L, with random weights on one processor."""
    for name in ("HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    tree["models"]["profile"] = "paper"
    tree["device"] = "cpu"
    tree["evaluate"] |= {"methods": ["fmbseg"], "data_sets": ["voc20"], "protocol": "tcl"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    assert main(["estimate", "--params", str(tmp_path / "params.yaml"), "--sample", "1",
                 "--images", "coco_stuff171", "--budget-seconds", "60"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "118,287 images, 171 classes" in out
    assert "profile paper on cpu" in out
    for words in ("all figures of the table are extrapolated", "measured in part",
                  "weights of clip, sam, vision are not here: random ones"):  # fmt: skip
        assert f"! {words}" in out
    table = {line.split()[0]: line for line in reversed(out.splitlines()) if line}
    assert {"pseudo_masks", "subsample", "train", "evaluate", "all"} <= table.keys()
    assert "years" in table["pseudo_masks"]
    assert "pseudo_masks: 1 of 118,287 images measured in part (" in out


def test_the_first_images_memory_counts_though_its_time_does_not(monkeypatch: pytest.MonkeyPatch):
    at_rest = [5, 5]
    peaks = iter([*at_rest, 9000, 10, 20])
    monkeypatch.setattr("fmbseg.estimate.meter.peak_bytes", lambda: next(peaks))
    found = Runs(Meter(1.0), math.inf, progress=False).each("stage 1", str.upper, ["a", "b", "c"])
    assert (found.units, found.peak_bytes) == (2, 9000)
