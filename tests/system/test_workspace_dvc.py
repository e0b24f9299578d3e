"""A workspace of its own, such as runs/<folder>, has DVC's face: pipeline, lock, metrics, plots."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from prefect.logging import disable_run_logger

from fmbseg.miniature.world import generate
from fmbseg.steps.plan import STEPS
from fmbseg.store import file_sha, read_json
from tasks import workspace_dvc
from tasks.versioning import version
from tests.conftest import REPOSITORY
from tests.support.dvc_checkout import Checkout, save_images
from tests.support.dvc_checkout import checkout as small_checkout
from tests.support.running_server import until


@pytest.fixture(autouse=True)
def quiet(dvc_site: None) -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline of the repository in a Git repository that ignores runs/."""
    root = tmp_path / "check out"
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/plots/shares.json",
                 "data/drops/README.md", "data/corrections/README.md"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, root / name)
    subprocess.run(["git", "init", "--quiet", root], check=True)
    monkeypatch.setattr(workspace_dvc, "_CHECKOUT", root)
    return root


def workspace_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copyfile(REPOSITORY / "params.yaml", folder / "params.yaml")
    return folder


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def pipeline(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "dvc.yaml").read_text()))


def test_a_workspace_gets_the_same_stages_with_commands_in_the_checkout(checkout: Path):
    root = workspace_in(checkout / "runs" / "my photos")
    assert workspace_dvc.prepare(root) is None
    found, wanted = pipeline(root), pipeline(checkout)
    assert list(found["stages"]) == list(wanted["stages"]) == [*STEPS, "track"]
    assert (found["metrics"], found["plots"]) == (wanted["metrics"], wanted["plots"])
    for name, entry in found["stages"].items():
        stage, theirs = (one.get("do", one) for one in (entry, wanted["stages"][name]))
        assert stage.get("params") == theirs.get("params")
        assert stage.get("outs") == theirs.get("outs")
        for dep, original in zip(stage["deps"], theirs["deps"], strict=True):
            code = original == "fmbseg"
            assert dep == (f"{checkout}/{original}" if code else original)
            assert not code or (REPOSITORY / original).exists()
    there = f"cd '{checkout}' &&"
    train, track = (found["stages"][name]["cmd"] for name in ("train", "track"))
    assert train == f'{there} python -m fmbseg.steps train --workspace "$OLDPWD"'
    assert track == f'{there} python -m tasks.tracking "$OLDPWD"'
    assert git(root, "status", "--porcelain") == ""
    assert set(git(root, "ls-files").split()) == {
        ".dvc/.gitignore", ".dvc/config", ".dvc/plots/shares.json", ".dvcignore", ".gitignore",
        "data/corrections/README.md", "data/drops/README.md", "dvc.yaml", "params.yaml",
    }  # fmt: skip
    assert git(checkout, "status", "--porcelain", "runs") == "", "the checkout ignores all of it"


def test_in_a_project_the_stages_depend_on_the_version_of_the_library(checkout: Path):
    stages = (checkout / "dvc.yaml").read_text().replace("- fmbseg\n", "- requirements.txt\n")
    (checkout / "dvc.yaml").write_text(stages)
    root = workspace_in(checkout / "runs" / "photos")
    assert workspace_dvc.prepare(root) is None
    for name in STEPS:
        stage = pipeline(root)["stages"][name]
        assert f"{checkout}/requirements.txt" in stage.get("do", stage)["deps"]


def test_a_call_that_was_killed_is_completed_and_a_changed_pipeline_follows(checkout: Path):
    root = workspace_in(checkout / "runs" / "a")
    workspace_dvc.prepare(root)
    whole = (root / "dvc.yaml").read_bytes()
    for missing in ("dvc.yaml", ".dvc/config", ".dvcignore"):
        (root / missing).unlink()
        assert workspace_dvc.prepare(root) is None
        assert (root / "dvc.yaml").read_bytes() == whole
    theirs = checkout / "dvc.yaml"
    theirs.write_text(theirs.read_text().replace("- data/subsample\n", "- data/other\n"))
    workspace_dvc.prepare(root)
    assert "- data/other\n" in (root / "dvc.yaml").read_text()
    assert git(root, "log", "--oneline").count("\n") == 1


def test_what_somebody_else_made_is_left_alone_and_said(checkout: Path, tmp_path: Path):
    mine = workspace_in(checkout / "runs" / "mine")
    (mine / "dvc.yaml").write_text("stages: {}\n")
    assert workspace_dvc.prepare(mine) is None
    assert sorted(path.name for path in mine.iterdir()) == ["dvc.yaml", "params.yaml"]
    other = tmp_path / "other"
    subprocess.run(["git", "init", "--quiet", other], check=True)
    inside = workspace_in(other / "photos")
    said = workspace_dvc.prepare(inside)
    assert said is not None
    assert "which does not ignore it" in said
    assert [path.name for path in inside.iterdir()] == ["params.yaml"]


def test_without_git_it_is_said_and_the_run_goes_on(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    root = workspace_in(checkout / "runs" / "a")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert workspace_dvc.prepare(root) == "git is not installed"


@pytest.mark.parametrize("name", ["a; touch gone", "${data.drops}", "ünï 'quoted' \"names\""])
def test_a_name_is_never_run_as_a_command_and_a_copy_computes_for_itself(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    code = checkout.rename(checkout.parent / name)
    monkeypatch.setattr(workspace_dvc, "_CHECKOUT", code)
    root = workspace_in(code / "runs" / name)
    copy = root / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    assert workspace_dvc.prepare(root) is None
    command = pipeline(root)["stages"]["download"]["cmd"].replace("\\${", "${")
    shown = command.replace("python -m fmbseg.steps", "pwd && printf '%s\\n'")
    for folder in (root, copy):
        done = subprocess.run(
            ["sh", "-c", shown], cwd=folder, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{code}\ndownload\n--workspace\n{folder}\n"
    assert not list(code.parent.rglob("gone"))


@pytest.mark.weights
@pytest.mark.slow
def test_a_finished_run_in_a_workspace_is_committed_and_shown_by_dvc(
    small_run: Path, tmp_path: Path
):
    one = Checkout(Path(shutil.copytree(small_run, tmp_path / "photos")))
    lock = version.fn(str(one.root), file_sha(one.root / "params.yaml"))
    assert lock == file_sha(one.root / "dvc.lock")
    assert one.status() == set()
    assert "Running stage" not in one.dvc("repro", "--dry")
    miou = read_json(one.root / "reports/report/metrics.json")["miou"]["fmbseg-miniature"]
    assert str(round(miou, 5)) in one.dvc("metrics", "show")
    drawn = json.loads(one.dvc("plots", "show", "--json"))
    assert "errors" not in drawn
    methods = ("maskclip", "stage1", "fmbseg")
    assert set(drawn["data"]) == {
        "reports/report/plots/loss.json",
        *(f"reports/report/plots/{kind}/{method}-miniature.json"
          for kind in ("iou", "confusion") for method in methods),
    }  # fmt: skip
    confusion = drawn["data"]["reports/report/plots/confusion/fmbseg-miniature.json"][0]["content"]
    cells = confusion["data"]["values"]
    sky = [cell for cell in cells if cell["actual"] == "sky"]
    matrix = read_json(one.root / "reports/evaluate/fmbseg-miniature/confusion.json")
    assert [cell["pixels"] for cell in sky] == [count for count in matrix[0] if count]
    assert sum(cell["share"] for cell in sky) == pytest.approx(1, abs=1e-5)
    assert "<DVC_METRIC" not in json.dumps(confusion), "every anchor was filled"


@pytest.mark.e2e
@pytest.mark.weights
@pytest.mark.timeout(1200)
def test_a_queued_experiment_of_a_workspace_is_computed_in_a_copy_and_shown_beside_it(
    tmp_path: Path,
):
    one = small_checkout(tmp_path / "check out")
    save_images(tmp_path / "photos", [item.image for item in generate(21, 6, "train")])
    names = tmp_path / "classes.txt"
    names.write_text("sky\ngrass\ncat\n")
    given = ("--images", str(tmp_path / "photos"), "--classes", str(names))
    one.run(sys.executable, "-m", "flows.run", *given)
    workspace = Checkout(one.root / "runs" / "photos")
    workspace.git("add", "dvc.lock")
    workspace.git("commit", "--quiet", "--message=masks")
    before = workspace.computed()
    workspace.dvc("exp", "run", "--queue", "--name", "longer", "-S", "train.epochs=3")
    workspace.dvc("queue", "start")
    until(lambda: "Success" in workspace.dvc("queue", "status"), 600)
    until(lambda: "0 active, 0 idle" in workspace.dvc("queue", "status"), 120)
    assert workspace.computed() == before, "the copy computed it"
    assert workspace.status() == set()
    rows = {
        row["Experiment"] or row["rev"]: row
        for row in csv.DictReader(workspace.dvc("exp", "show", "--csv").splitlines())
    }
    assert (rows["main"]["train.epochs"], rows["longer"]["train.epochs"]) == ("2", "3")
    assert rows["longer"]["data/pseudo_masks"] == rows["main"]["data/pseudo_masks"]
    assert rows["longer"]["models/train"] != rows["main"]["models/train"]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("fmbseg").experiment_id
    (logged,) = client.search_runs([experiment], "tags.`dvc.experiment` = 'longer'")
    assert logged.info.status == "FINISHED"
    assert logged.data.params["train.epochs"] == "3"
    assert logged.data.tags["registered_model"] == "fmbseg-photos", "it goes by the images"
