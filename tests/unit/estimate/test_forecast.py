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
    FLOW_S,
    OBJECT_BYTES,
    Row,
    forecast,
    human_time,
    lines,
    whole_run,
)
from fmbseg.estimate.measure import Figures, measure, seconds
from fmbseg.estimate.sample import IMAGE_BYTES, DataSet
from fmbseg.params import Params, load_params
from fmbseg.steps.kept_masks import SHARDS_HELD
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import Vocabulary
from tests.conftest import REPOSITORY


def a_set(images: int, drawn: int = 0, *, here: bool = True, **archives: int) -> DataSet:
    samples, classes = MiniatureDataset("test", count=1), Vocabulary(("x",))
    return DataSet("voc20", "t", samples, classes, images, drawn, archives, here)


FIGURES = Figures(
    seconds={
        "download": 0.25, "pseudo_masks": 3.0, "subsample": 0.5, "features": 2.0, "step": 10.0,
        "validation": 0.5, "foundation-voc20": 1.0, "stage1-voc20": 4.0, "fmbseg-voc20": 1.0,
    },
    sizes={"masks": 11.0, "kept": 4.0, "features": 100.0, "model": 500.0},
    idle_bytes=1000, work_bytes=4000, images=2,
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
    by = table(params, a_set(10, a=100, b=50), a_set(5, here=False, b=50, c=7))
    assert by["download"].seconds is None, "what is fetched depends on the line"
    assert by["download"].disk_bytes == 157, "an archive of both counts once"
    assert "57 B to fetch" in by["download"].basis
    stage1 = by["pseudo_masks"]
    assert stage1.seconds == 10 * 3
    assert stage1.many_s == 8 * 3, "shards of 4, 4 and 2 images, two of them at once"
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
    assert whole.seconds == 30 + 5 + train.seconds + sum(times.values()) + FLOW_S
    assert whole.disk_bytes == 157 + 110 + 40 + 500
    drawn, listed = table(params, a_set(10, 12)), table(params, a_set(10))
    assert drawn["download"].disk_bytes == 12 * IMAGE_BYTES
    assert (drawn["download"].seconds, listed["download"].seconds) == (12 / 4, 10 / 4)
    assert (drawn["download"].many_s, listed["download"].many_s) == (12 / 4 / 2, 10 / 4)
    cached = table(params_with(**{"train.epochs": 6}), a_set(10))["train"]
    assert cached.seconds == 10 * 2 + 6 * 2 * 10
    assert cached.many_s == 10 * 2 / 2 + 6 * 2 * 10, "features that fit are encoded side by side"


def test_the_memory_is_that_of_all_that_runs_on_this_machine_at_a_time():
    here, elsewhere = {"runner.kind": "dask"}, {"runner.dask_address": "tcp://host:8786"}
    process = 1000 + FLOW_BYTES
    for runner, working in (
        ({"runner.kind": "threads"}, 3 * 4000), (here, 3 * (process + 4000)),
        (here | elsewhere, process + 4000),
    ):  # fmt: skip
        by = table(params_with(**runner), a_set(5), a_set(5), workers=3)
        most = process + working
        assert by["pseudo_masks"].memory_bytes == by["evaluate"].memory_bytes == most
        assert ("each of 3 processes" in by["pseudo_masks"].basis) == (
            runner["runner.kind"] == "dask"
        )
        assert by["subsample"].memory_bytes == most + OBJECT_BYTES * 5 * 11
        held = 2 * 5 * 100 + OBJECT_BYTES * 5 * 4  # features and their norms
        assert by["train"].memory_bytes == by["all"].memory_bytes == most + held
    many = table(params_with(**{"data.shard_images": 3}), a_set(1000), workers=1)
    assert many["subsample"].memory_bytes == process + 4000 + OBJECT_BYTES * 3 * 11, "a shard's"
    assert many["train"].memory_bytes == (
        process + 4000 + 2 * 1000 * 100 + OBJECT_BYTES * SHARDS_HELD * 3 * 4
    )


def test_features_are_kept_where_the_settings_say():
    settings = {"train.epochs": 6, "train.feature_cache_gb": 350 / 1e9}
    by = {
        kind: table(params_with(**settings, **{"train.feature_cache": kind}), a_set(10))["train"]
        for kind in ("off", "memory", "disk")
    }
    assert by["off"].seconds == 10 * 6 * 2 + 6 * 2 * 10
    assert by["disk"].seconds == (7 + 3 * 6) * 2 + 6 * 2 * 10, "float16 takes half"
    assert by["memory"].memory_bytes == by["off"].memory_bytes + 350, "features, and some norms"
    assert by["disk"].memory_bytes == by["off"].memory_bytes
    assert by["disk"].disk_bytes == by["off"].disk_bytes + 7 * 50
    two = params_with(**settings, **{"train.feature_cache": "off", "train.processes": 2})
    shared = table(two, a_set(10), workers=1)["train"]
    assert shared.seconds == shared.many_s == 10 * 6 * 2 / 2 + 6 * 2 * 10, "the encoding alone"
    assert "60 encodings by 2 processes" in shared.basis
    one = table(params_with(**settings, **{"train.feature_cache": "off"}), a_set(10), workers=1)
    assert shared.memory_bytes == one["train"].memory_bytes + 1000 + FLOW_BYTES
    two = params_with(**settings, **{"train.processes": 2})
    assert "(70% of them fit" in table(two, a_set(10))["train"].basis, "each keeps its own"


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
    by = table(params_with(), a_set(10, 12), a_set(5), left=left, workers=1)
    assert (by["download"].disk_bytes, by["download"].seconds) == (0, 0)
    assert by["pseudo_masks"].seconds == 6 * 3
    assert "4 of 10 images computed already" in by["pseudo_masks"].basis
    assert by["pseudo_masks"].disk_bytes == 6 * 11
    assert (by["subsample"].seconds, by["subsample"].basis) == (0, "computed already")
    assert "stage1-voc20" not in by
    assert by["all"].seconds == 18 + by["train"].seconds + 5 + FLOW_S


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
    rows = [Row("train", "why", 60.0, 60.0, 5e6, 2e9), Row("  part", "how", 5.0, None)]
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
    monkeypatch.setattr("fmbseg.estimate.measure.clock", lambda params: clock[0])
    for budget, wanted in ((5.0, [1]), (25.0, [1]), (35.0, [1, 2]), (1e9, [1, 4])):
        asked.clear()
        place = Workspace(tmp_path, params_with())
        assert measure(place, a_set(9), (), 4, budget).images == wanted[-1]
        assert asked == wanted


def test_the_device_is_waited_for_before_the_clock_is_read(monkeypatch: pytest.MonkeyPatch):
    waits: list[str] = []
    monkeypatch.setattr("torch.accelerator.synchronize", lambda: waits.append("cuda"))
    device = torch.device("cuda")
    monkeypatch.setattr("fmbseg.estimate.measure.resolve_device", lambda name: device)
    seconds(params_with(), lambda: waits.append("work"))
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
    monkeypatch: pytest.MonkeyPatch,
):
    """docs/performance.md: 3 pictures, a grid of 8 x 8 points, `base`, seconds of a core."""
    params = params_with(**{
        "models.profile": "base", "pseudo_masks.points_per_side": 8,
        "evaluate.methods": ["maskclip", "fmbseg"],
    })  # fmt: skip
    for slower in (1.0, 2.0):
        monkeypatch.setattr("fmbseg.estimate.coarse._slower", lambda params, slower=slower: slower)
        figures = coarse(params, whole_run(params, a_set(3), [a_set(3)]))
        measured = {"pseudo_masks": 98, "foundation-voc20": 86, "maskclip-voc20": 43,
                    "fmbseg-voc20": 18}  # fmt: skip
        for name, took in measured.items():
            assert 0.8 < figures.seconds[name] * 3 / slower / took < 1.25, name
    assert figures.images == 0
