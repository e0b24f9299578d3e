"""How measured seconds and bytes are scaled to a run, shown as a table, and measured."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fmbseg.datasets.miniature import MiniatureDataset
from fmbseg.estimate.coarse import coarse
from fmbseg.estimate.forecast import (
    FLOW_BYTES,
    OBJECT_BYTES,
    Row,
    forecast,
    human_time,
    lines,
    whole_run,
)
from fmbseg.estimate.measure import Bench, Figures, measure
from fmbseg.estimate.sample import DataSet
from fmbseg.params import Params, load_params
from fmbseg.vocabulary import Vocabulary
from tests.conftest import REPOSITORY


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
