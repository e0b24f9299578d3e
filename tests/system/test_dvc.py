"""DVC and the flow on one workspace: what one computed, the other never computes again."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from prefect import flow

from fmbseg.evaluate.metrics import METRICS
from fmbseg.miniature.world import generate
from fmbseg.steps import plan
from fmbseg.store import file_sha, read_json
from tests.support.dvc_checkout import Checkout, checkout, finished, hold_lock, save_images
from tests.unit.steps.test_corrections import correct

pytestmark = [
    pytest.mark.weights, pytest.mark.slow,
    pytest.mark.usefixtures("prefect_server", "dvc_site"),
]  # fmt: skip

DAMAGE = {
    "data/download/miniature": "data/download/miniature/train/images/train-00003.png",
    "data/pseudo_masks/images-0001": "data/pseudo_masks/images-0001/stage12.json",
    "data/subsample": "data/subsample/images-0001.json",
    "models/train": "models/train/alignment.safetensors",
    "reports/evaluate/stage1-miniature": "reports/evaluate/stage1-miniature/metrics.json",
    "reports/report": "reports/report/index.html",
}
"""A unit of each step, and a file of it."""
DETAILS = "reports/report/details.json"
HOW = ("deleted", "edited", "gone")
"""What happens to the file; `gone`: with its folder."""


@pytest.fixture
def done(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Checkout:
    """A finished run, to change."""
    return finished(tmp_path_factory).copy(tmp_path / "code")


def damage(one: Checkout, file: str, how: str) -> None:
    path = one.root / file
    if how == "edited":
        path.write_bytes(path.read_bytes() + b" ")
    elif how == "deleted":
        path.unlink()
    else:
        shutil.rmtree(path.parent)


def test_after_dvc_repro_from_nothing_every_task_of_the_flow_is_cached(done: Checkout):
    before = done.computed()
    assert len(before) == len(set(before)) == 12
    assert done.status() == set()
    assert set(done.flow().values()) == {"Cached"}
    assert done.computed() == before
    assert done.status() == set()
    assert done.git("status", "--porcelain") == "", "both wrote the same dvc.lock"


def test_after_a_flow_from_nothing_dvc_is_clean_and_repro_computes_nothing(tmp_path: Path):
    fresh = checkout(tmp_path / "code")
    assert set(fresh.flow().values()) == {"Completed"}
    before = fresh.computed()
    assert len(before) == len(set(before)) == 12
    assert fresh.status() == set()
    assert "Running stage" not in fresh.dvc("repro")
    assert fresh.computed() == before
    assert fresh.git("status", "--porcelain") == "?? dvc.lock\n"


@pytest.mark.e2e
def test_after_make_run_from_nothing_dvc_is_clean_and_repro_computes_nothing(tmp_path: Path):
    fresh = checkout(tmp_path / "code")
    fresh.run(sys.executable, "-m", "flows.run")
    before = fresh.computed()
    assert fresh.status() == set()
    assert "Running stage" not in fresh.dvc("repro")
    assert fresh.computed() == before


def test_a_clone_that_pulled_computes_nothing_by_dvc_nor_by_the_flow(
    done: Checkout, tmp_path: Path
):
    done.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    done.git("commit", "--quiet", "--all", "--message=store")
    done.dvc("push")
    done.git("clone", "--quiet", str(done.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("pull")
    assert clone.status() == set()
    assert "Running stage" not in clone.dvc("repro")
    assert set(clone.flow().values()) == {"Cached"}
    assert clone.computed() == []
    assert clone.status() == set()
    for unit, file in DAMAGE.items():
        assert file_sha(clone.root / file) == file_sha(done.root / file), unit


def test_a_push_is_complete_after_the_cache_was_deleted_and_the_flow_ran(
    done: Checkout, tmp_path: Path
):
    shutil.rmtree(done.root / ".dvc" / "cache")
    assert set(done.flow().values()) == {"Cached"}
    done.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    done.dvc("push")
    assert json.loads(done.dvc("status", "--cloud", "--json")) == {}
    for folder in ("data/download", "data/pseudo_masks", "data/subsample", "models", "reports"):
        shutil.rmtree(done.root / folder)
    shutil.rmtree(done.root / ".dvc" / "cache")
    done.dvc("pull")
    assert plan.problem(done.workspace()) is None


def test_the_flow_computes_damaged_units_again_and_no_other(done: Checkout):
    before = done.computed()
    for unit, how in zip(sorted(DAMAGE), HOW * 2, strict=True):
        damage(done, DAMAGE[unit], how)
    assert done.status()
    states = done.flow()
    assert sorted(states.values()) == ["Cached"] * 6 + ["Completed"] * 6
    assert done.computed() == sorted([*before, *DAMAGE])
    assert done.status() == set()


def test_dvc_repro_computes_damaged_units_again_and_no_other(done: Checkout):
    before = done.computed()
    damaged = [unit for unit in DAMAGE if "images-0001" in unit or "stage1" in unit]
    for unit, how in zip(damaged, ("gone", "edited"), strict=True):
        damage(done, DAMAGE[unit], how)
    done.dvc("repro")
    assert done.computed() == sorted([*before, *damaged])
    assert done.status() == set()


@pytest.mark.e2e
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("unit", DAMAGE)
def test_the_flow_computes_any_one_damaged_unit_again_and_no_other(
    done: Checkout, unit: str, how: str
):
    before = done.computed()
    damage(done, DAMAGE[unit], how)
    states = done.flow()
    assert sorted(states.values()) == ["Cached"] * 10 + ["Completed"]
    assert done.computed() == sorted([*before, unit])
    assert done.status() == set()


@pytest.mark.e2e
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("unit", DAMAGE)
def test_dvc_repro_computes_any_one_damaged_unit_again_and_no_other(
    done: Checkout, unit: str, how: str
):
    before = done.computed()
    damage(done, DAMAGE[unit], how)
    done.dvc("repro")
    assert done.computed() == sorted([*before, unit])
    assert done.status() == set()
    assert set(done.flow().values()) == {"Cached"}


def test_diffs_name_what_changed_and_a_checkout_goes_back_without_computing(done: Checkout):
    before = done.computed()
    weights = file_sha(done.root / DAMAGE["models/train"])
    done.change(train={"epochs": 3})
    done.flow()
    assert done.computed() == sorted(
        [*before, "models/train", "reports/evaluate/fmbseg-miniature", "reports/report"]
    )
    assert json.loads(done.dvc("params", "diff", "--json")) == {
        "params.yaml": {"train.epochs": {"old": 2, "new": 3, "diff": 1}}
    }
    changed = json.loads(done.dvc("metrics", "diff", "--json"))["reports/report/metrics.json"]
    figure = read_json(done.root / "reports/evaluate/fmbseg-miniature/metrics.json")["miou"]
    assert set(changed) == {"miou.fmbseg-miniature"}
    assert changed["miou.fmbseg-miniature"]["new"] == figure
    details = json.loads(done.dvc("metrics", "diff", "--json", "--targets", DETAILS))[DETAILS]
    assert set(details) == {f"{metric.name}.fmbseg-miniature" for metric in METRICS}
    assert str(round(figure, 5)) in done.dvc("metrics", "show")
    classes = done.dvc("metrics", "diff", "--targets", "reports/report/iou.json")
    assert "fmbseg-miniature.sky" in classes
    assert "stage1" not in classes, "unchanged figures are left out"

    before = done.computed()
    done.git("checkout", "--quiet", "params.yaml", "dvc.lock")
    done.dvc("checkout")
    assert file_sha(done.root / DAMAGE["models/train"]) == weights
    assert done.status() == set()
    assert "Running stage" not in done.dvc("repro")
    assert set(done.flow().values()) == {"Cached"}
    assert done.computed() == before


def drop(one: Checkout) -> list[str]:
    """Put two new images into data/drops; the units they bring or change."""
    save_images(one.root / "data" / "drops", [item.image for item in generate(11, 2, "train")])
    return [
        "data/download/drops", "data/pseudo_masks/drops-0000", "data/subsample", "models/train",
        "reports/evaluate/fmbseg-miniature", "reports/report", "reports/review",
    ]  # fmt: skip


def test_new_images_in_drops_bring_one_shard_and_dvc_agrees(done: Checkout):
    before = done.computed()
    wanted = drop(done)
    assert done.status() == {"download"}
    done.flow()
    assert done.computed() == sorted([*before, *wanted])
    assert done.status() == set()
    assert "Running stage" not in done.dvc("repro")


@pytest.mark.e2e
def test_corrections_outdate_the_training_alone_and_dvc_keeps_their_copy(done: Checkout):
    before, workspace = done.computed(), done.workspace()
    images = sorted(workspace.listing().images)
    for image in images:
        correct(workspace, image, "sky")
    saved = {file: file.read_bytes() for file in workspace.corrections.rglob("*.json")}
    assert done.status() == {"download"}
    done.flow()
    wanted = [
        "data/download/corrections", "models/train", "reports/report",
        "reports/evaluate/fmbseg-miniature",
        *(f"reports/evaluate/{name}-corrections" for name in ("fmbseg", "maskclip", "stage1")),
    ]  # fmt: skip
    assert done.computed() == sorted([*before, *wanted])
    assert done.status() == set()
    assert "Running stage" not in done.dvc("repro")
    shutil.rmtree(done.root / "data/download")
    done.dvc("checkout")
    copied = done.root / "data/download/corrections/files"
    for file, content in saved.items():
        assert file.read_bytes() == content, "what people made is never touched"
        assert (copied / file.relative_to(workspace.corrections)).read_bytes() == content


@pytest.mark.e2e
def test_new_images_in_drops_give_the_same_units_by_dvc_as_by_the_flow(
    done: Checkout, tmp_path: Path
):
    other = done.copy(tmp_path / "other")
    before = done.computed()
    wanted = drop(done)
    drop(other)
    done.dvc("repro")
    assert done.computed() == sorted([*before, *wanted])
    assert set(done.flow().values()) == {"Cached"}
    other.flow()
    for unit in wanted:
        name = f"{unit}/manifest.json"
        assert read_json(done.root / name)["key"] == read_json(other.root / name)["key"]


def test_repro_and_the_flow_at_once_compute_each_missing_unit_once(done: Checkout):
    before = done.computed()
    for unit in ("data/subsample", "reports/report"):
        shutil.rmtree(done.root / unit)
    repro = done.start(sys.executable, "-m", "dvc", "--wait-for-lock", "repro")
    done.flow()
    said = repro.communicate(timeout=300)[0]
    assert repro.returncode == 0, said
    assert done.computed() == sorted([*before, "data/subsample", "reports/report"])
    assert done.status() == set()


@pytest.mark.e2e
def test_repro_and_the_flow_at_once_on_an_empty_workspace_compute_every_unit_once(tmp_path: Path):
    fresh = checkout(tmp_path / "code")
    repro = fresh.start(sys.executable, "-m", "dvc", "--wait-for-lock", "repro")
    run = fresh.start(sys.executable, "-m", "flows.run")
    for process in (repro, run):
        said = process.communicate(timeout=600)[0]
        assert process.returncode == 0, said
    computed = fresh.computed()
    assert len(computed) == len(set(computed)) == 12
    assert fresh.status() == set()


def test_the_flow_waits_for_another_dvc_command_and_then_commits(done: Checkout):
    from tasks.versioning import version

    impatient = version.with_options(retry_delay_seconds=0.5)

    @flow
    def versioned() -> str:
        return impatient(str(done.root), file_sha(done.root / "params.yaml"))

    with hold_lock(done, seconds=4.5):
        assert versioned() == file_sha(done.root / "dvc.lock")
    assert done.status() == set()
