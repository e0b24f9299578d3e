"""What a run in MLflow holds."""

import html
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image

from fmbseg.steps import figures
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_coco, read_json, sha_of, write_json
from tasks.tracking import system_metrics, track
from tasks.tracking.__main__ import main as tracking_main
from tasks.tracking.mlflow_client import system as tracking_system
from tests.conftest import REPOSITORY
from tests.support.tracked_workspaces import (
    Copy,
    another_result,
    client_of,
    parents,
    read_artifact,
    set_params,
    steps_of,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]


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

    text = html.unescape((workspace.report / "index.html").read_text())
    (search,) = re.findall(r"tags\.`key\.train` = '\w+'", text)
    (shown,) = client.search_runs([run.info.experiment_id], search)
    assert shown.info.run_id == run_id, "the report says how to find it"

    tags, metrics = run.data.tags, run.data.metrics
    assert tags["key.dvc_lock"] == file_sha(root / "dvc.lock")
    head = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True, check=False)
    commit = found.stdout.strip() or "none"
    assert tags["key.git_commit"] == commit
    assert tags["code"].startswith(commit[:7])
    assert tags["key.train"] == read_json(workspace.train / "manifest.json")["key"]
    assert json.loads(tags["key.units"])["models/train"] == tags["key.train"][:12]
    assert len(tags["key.state"]) == 16
    assert tags["images"] == "12"
    assert tags["changed"] == "the first run of fmbseg-miniature"
    assert tags["key.images"] == sha_of(workspace.listing().images)[:16]
    hashes = [name for name, value in tags.items() if re.fullmatch(r"[0-9a-f]{12,}", value)]
    apart = {name for name in hashes if not name.startswith(("key.", "mlflow."))}
    assert apart == set(), "hashes stand behind a prefix"
    given = next(one for one in run.inputs.dataset_inputs if one.tags[0].value == "training")
    assert given.dataset.digest == tags["key.images"]
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
    assert metrics["quarantined_images"] == 0
    for method in ("maskclip", "stage1", "fmbseg"):
        scores = read_json(workspace.evaluate / f"{method}-miniature" / "metrics.json")
        assert metrics[f"miou.{method}.miniature"] == scores["miou"]
    assert 0 <= metrics["presence.f1"] <= 1

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


def test_the_numbers_of_pseudo_masks_agree_in_mlflow_the_report_and_the_files(
    copy: Copy, tmp_path: Path
):
    root = copy("a")
    workspace = Workspace.open(root)
    run_id = track.fn(str(root))
    client = client_of(root)
    metrics = client.get_run(run_id).data.metrics
    counts = figures.mask_counts(workspace)
    total = figures.mask_total(counts)
    offered = [
        len(read_coco(workspace.pseudo_masks / shard / "stage12.json").masks)
        for shard in shards(workspace)
    ]
    kept = read_json(workspace.subsample / "counts.json")["kept"]
    assert metrics["pseudo_masks.stage12.found"] == total.found_12 == sum(offered)
    assert metrics["pseudo_masks.stage12.kept"] == sum(kept["1.2"].values()) < sum(offered)
    assert metrics["pseudo_masks.stage11.kept"] == sum(kept["1.1"].values())
    assert not {"pseudo_masks.stage11", "pseudo_masks.stage12"} & metrics.keys()
    for name, number in read_json(workspace.report / "details.json")["pseudo_masks"].items():
        assert metrics[f"pseudo_masks.{name}"] == number
    for one in counts:
        assert metrics[f"pseudo_masks.found.{one.class_name}"] == one.found
        assert metrics[f"pseudo_masks.kept.{one.class_name}"] == one.kept
    table = read_json(read_artifact(client, run_id, "pseudo_mask_counts.json", tmp_path / "1"))
    last = dict(zip(table["columns"], table["data"][-1], strict=True))
    assert last["stage 1.2 found"] == total.found_12
    assert last["stage 1.2 kept"] == total.kept_12
    assert last["kept"] == total.kept
    page = (workspace.report / "index.html").read_text()
    assert f"{total.found_12:,}" in page
    assert f"{total.kept_12:,}" in page


def test_a_run_says_in_words_what_differs_from_the_run_before(copy: Copy):
    first, second, third = copy("a"), copy("b"), copy("c")
    before = client_of(first).get_run(track.fn(str(first))).info.run_name
    set_params(second, train={"temperature": 0.3}, report={"gallery_images": 3})
    another_result(second, 0.5)
    tags = client_of(second).get_run(track.fn(str(second))).data.tags
    assert tags["changed"] == (
        f"since {before}: train.temperature 0.2 → 0.3; report.gallery_images 2 → 3"
    )
    set_params(third, train={"temperature": 0.3}, report={"gallery_images": 3})
    another_result(third, 0.6)
    listing = third / "data" / "download" / "miniature" / "listing.json"
    images = read_json(listing)["images"]
    write_json(listing, read_json(listing) | {"images": images | {"extra.png": "0" * 64}})
    tags = client_of(third).get_run(track.fn(str(third))).data.tags
    assert "images 12 → 13" in tags["changed"]
    assert "temperature" not in tags["changed"], "only what differs"


def test_what_the_run_took_of_the_machine_is_among_mlflows_system_metrics(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tracking_system, "_EVERY_S", 0.05)
    root = copy("a")
    with system_metrics(str(root)):
        time.sleep(0.3)
        run_id = track.fn(str(root))
    client = client_of(root)
    metrics = client.get_run(run_id).data.metrics
    history = client.get_metric_history(run_id, "system/process_memory_megabytes")
    assert [metric.step for metric in history] == list(range(len(history)))
    assert len(history) > 2
    assert metrics["peak_memory_megabytes"] == max(metric.value for metric in history) > 50
    wanted = {"cpu_utilization_percentage", "system_memory_usage_megabytes",
              "disk_available_megabytes"}  # fmt: skip
    assert wanted <= {name.removeprefix("system/") for name in metrics}


def test_classes_that_were_never_found_are_a_tag_a_table_and_a_line_of_the_note(
    copy: Copy, tmp_path: Path
):
    root = copy("a")
    workspace = Workspace.open(root)
    file = workspace.subsample / "counts.json"
    counts = read_json(file)
    for stage in ("1.1", "1.2"):
        counts["found"][stage].pop("cat", None)
    write_json(file, counts)
    run_id = track.fn(str(root))
    client = client_of(root)
    run = client.get_run(run_id)
    said = "1 of 14 classes was never found in 12 images: cat; try synonyms"
    assert run.data.tags["never_found"] == said
    assert said.split(":")[0] in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["classes_never_found"] == 1
    table = read_json(read_artifact(client, run_id, "classes_never_found.json", tmp_path / "1"))
    assert table["data"] == [["cat", 12]]


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
    folder = Workspace.open(root).evaluate / "stage1-miniature"
    scores = read_json(folder / "metrics.json")
    assert run.data.metrics["miou"] == scores["miou"]
    assert run.data.metrics["iou.sky"] == scores["iou"]["sky"]
    child = run.info.run_id
    confusion = read_json(read_artifact(client, child, "confusion.json", tmp_path / "1"))
    assert confusion["pixels"] == read_json(folder / "confusion.json")
    assert confusion["classes"] == list(scores["iou"])
    with Image.open(read_artifact(client, child, "confusion.png", tmp_path / "2")) as picture:
        assert min(picture.size) > 500
    shown = sorted(path.name for path in (folder / "examples").iterdir())
    assert shown
    assert [Path(a.path).name for a in client.list_artifacts(child, "examples")] == shown
    table = read_json(read_artifact(client, child, "iou_per_class.json", tmp_path / "3"))
    assert dict(table["data"]) == scores["iou"]


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
