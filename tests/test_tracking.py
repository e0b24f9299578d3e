"""What a run in MLflow holds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_json, sha_of
from tasks.tracking import main as tracking_main
from tasks.tracking import track
from tests.conftest import REPOSITORY
from tests.once import made_once
from tests.tracked import (
    Copy,
    client_of,
    copies,
    new_database,
    parents,
    read_artifact,
    set_params,
    steps_of,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture
def copy(small_run: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Copy:
    return copies(small_run, made_once(tmp_path_factory, "mlflow", new_database), tmp_path)


def test_a_run_holds_all_that_the_steps_left(copy: Copy, tmp_path: Path):
    root = copy("a b#ü 'q'")
    shutil.move(root.parent / "mlflow.db", root)
    set_params(root, tracking={"uri": f"sqlite:///{root}/mlflow.db"})
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    workspace = Workspace.open(root)
    run_id = track.fn(str(root))
    assert track.fn(str(root)) == run_id, "an unchanged state is the run that was logged"
    client = client_of(root)
    (run,) = parents(client)
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"

    tags, metrics = run.data.tags, run.data.metrics
    assert tags["dvc_lock"] == file_sha(root / "dvc.lock")
    head = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True, check=False)
    assert tags["git_commit"] == (found.stdout.strip() or "none")
    assert tags["train_key"] == read_json(workspace.train / "manifest.json")["key"]
    assert tags["unit.models/train"] == tags["train_key"]
    assert len(tags["state"]) == 16
    assert tags["images"] == "12"
    assert tags["dataset_fingerprint"] == sha_of(workspace.listing().images)[:16]
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == tags["dataset_fingerprint"]
    assert json.loads(given.dataset.profile) == {"images": 12}
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["train.init_from"] == "None"

    history = read_json(workspace.train / "history.json")
    assert steps_of(client, run_id) == [point["step"] for point in history]
    for name in ("loss", "learning_rate", "epoch"):
        values = [metric.value for metric in client.get_metric_history(run_id, name)]
        assert values == [point[name] for point in history]
    timing = read_json(workspace.train / "timing.json")
    assert metrics["train.patches_per_second"] == timing["patches_per_second"]
    assert metrics["train.seconds"] == timing["seconds"]
    counts = read_json(workspace.subsample / "counts.json")["counts"]
    for name in counts["1.1"]:
        both = counts["1.1"][name] + counts["1.2"].get(name, 0)
        assert metrics[f"pseudo_masks.kept.{name}"] == both
        assert metrics[f"pseudo_masks.stage11.{name}"] == counts["1.1"][name]
    assert metrics["pseudo_masks.kept"] == sum(sum(part.values()) for part in counts.values())
    assert metrics["quarantined_images"] == 0
    for method in ("maskclip", "stage1", "fmbseg"):
        figures = read_json(evaluate.folder(workspace, f"{method}-miniature") / "metrics.json")
        assert metrics[f"miou.{method}.miniature"] == figures["miou"]
    assert 0 <= metrics["presence.f1"] <= 1

    table = read_json(read_artifact(client, run_id, "pseudo_mask_counts.json", tmp_path / "1"))
    assert table["columns"] == ["class", "stage 1.1", "stage 1.2", "kept"]
    assert table["data"][-1][3] == metrics["pseudo_masks.kept"]
    table = read_json(read_artifact(client, run_id, "iou_per_class.json", tmp_path / "2"))
    assert table["columns"] == [
        "class",
        *(f"{m}.miniature" for m in workspace.params.evaluate.methods),
    ]
    assert len(table["data"]) == 14
    assert read_json(read_artifact(client, run_id, "quarantine.json", tmp_path / "3")) == {
        "quarantined": []
    }
    page = read_artifact(client, run_id, "report/index.html", tmp_path / "4")
    assert page.read_bytes() == (workspace.report / "index.html").read_bytes()


def test_every_method_has_a_nested_run_with_tables_and_pictures(copy: Copy, tmp_path: Path):
    root = copy("a")
    run_id = track.fn(str(root))
    client = client_of(root)
    experiment = client.get_run(run_id).info.experiment_id
    nested = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run_id}'")
    methods = Workspace.open(root).params.evaluate.methods
    assert sorted(run.data.tags["method"] for run in nested) == sorted(
        f"{method}.miniature" for method in methods
    )
    run = next(run for run in nested if run.data.params["method"] == "stage1")
    folder = evaluate.folder(Workspace.open(root), "stage1-miniature")
    figures = read_json(folder / "metrics.json")
    assert run.data.metrics["miou"] == figures["miou"]
    assert run.data.metrics["iou.sky"] == figures["iou"]["sky"]
    child = run.info.run_id
    confusion = read_json(read_artifact(client, child, "confusion.json", tmp_path / "1"))
    assert confusion["pixels"] == read_json(folder / "confusion.json")
    assert confusion["classes"] == list(figures["iou"])
    with Image.open(read_artifact(client, child, "confusion.png", tmp_path / "2")) as picture:
        assert min(picture.size) > 500
    shown = sorted(path.name for path in (folder / "examples").iterdir())
    assert shown
    assert [Path(a.path).name for a in client.list_artifacts(child, "examples")] == shown
    table = read_json(read_artifact(client, child, "iou_per_class.json", tmp_path / "3"))
    assert dict(table["data"]) == figures["iou"]


def test_an_experiment_of_dvc_reaches_mlflow_without_a_flow_or_a_server(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """DVC deletes the copies it runs in, so the store is the one of the checkout."""
    done = copy("done")
    set_params(done, tracking={"uri": "sqlite:///mlflow.db"})
    root = done.parent / ".dvc" / "tmp" / "exps" / "tmpabc"
    shutil.copytree(done, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_EXP_NAME", "vocal-toad")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
    monkeypatch.setattr(sys, "argv", ["tracking"])
    assert tracking_main() == 0
    printed = capsys.readouterr().out
    client = MlflowClient(tracking_uri=f"sqlite:///{done.parent}/mlflow.db")
    (run,) = parents(client)
    assert run.info.run_name == run.data.tags["dvc.experiment"] == "vocal-toad"
    assert run.data.tags["dvc.baseline"] == "0123abc"
    assert run.info.run_id in printed
    assert "miou.fmbseg.miniature" in run.data.metrics
    assert not list(root.glob("ml*"))
    assert tracking_main() == 0
    assert len(parents(client)) == 1, "a state is logged once"
    (root / "reports" / "report" / "index.html").unlink()
    assert tracking_main() == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "reports/report" in said
    assert "finish the outputs first" in said
