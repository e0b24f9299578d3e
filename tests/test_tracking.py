import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.steps import evaluate, report
from fmbseg.steps import train as train_step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_image, read_json, sha_of, write_json
from tasks import tracking_champion, tracking_live
from tasks.tracking import fetch_champion, track
from tasks.train import train
from tests.conftest import REPOSITORY, SMALL
from tests.test_steps import run_all

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def set_params(root: Path, **sections: dict[str, Any]) -> Workspace:
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in sections.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace.open(root)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on the miniature, not tracked yet, and an empty database beside it."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    uri = f"sqlite:///{root}/mlflow.db"
    run_all(set_params(root, **{**SMALL, "tracking": {"uri": uri}}))
    MlflowClient(tracking_uri=uri)  # makes the tables, which takes seconds
    return root


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes another copy of the finished workspace; all share one database."""
    shutil.copyfile(finished / "mlflow.db", tmp_path / "mlflow.db")

    def make(name: str) -> Path:
        root = tmp_path / name
        shutil.copytree(finished, root, ignore=shutil.ignore_patterns("mlflow.db", ".scratch"))
        set_params(root, tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
        return root

    return make


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=Workspace.open(root).params.tracking.uri)


def parents(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("fmbseg")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def read_artifact(client: MlflowClient, run: str, path: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run, path, str(folder)))


def steps_of(client: MlflowClient, run: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run, "loss")]


def another_result(root: Path, miou: float, *, retrained: bool = True, **figures: str) -> None:
    """As if another training had been scored: other figures, other keys of the two units."""
    folder = evaluate.folder(Workspace.open(root), "fmbseg-miniature")
    metrics = read_json(folder / "metrics.json") | {"miou": miou} | figures
    write_json(folder / "metrics.json", metrics)
    for unit in [folder, *([root / "models" / "train"] if retrained else [])]:
        manifest = read_json(unit / "manifest.json")
        write_json(
            unit / "manifest.json",
            manifest | {"key": sha_of([manifest["key"], root.name, metrics])},
        )


def test_a_run_holds_all_that_the_steps_left(copy: Callable[[str], Path], tmp_path: Path):
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


def test_every_method_has_a_nested_run_with_tables_and_pictures(
    copy: Callable[[str], Path], tmp_path: Path
):
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


def test_the_champion_moves_only_to_what_is_strictly_and_comparably_better(
    copy: Callable[[str], Path],
):
    def attempt(name: str, miou: float, **figures: str) -> tuple[str, str, str]:
        """A new workspace's verdict, its reason, and the version that is champion then."""
        root = copy(name)
        another_result(root, miou, **figures)
        tags = client_of(root).get_run(track.fn(str(root))).data.tags
        version = client_of(root).get_model_version_by_alias("fmbseg", "champion").version
        return tags["champion"], tags["champion_reason"], str(version)

    assert attempt("first", 0.5)[::2] == ("moved", "1")
    moved, why, version = attempt("better", 0.6)
    assert (moved, version) == ("moved", "2")
    assert "version 2 has mIoU 0.6000" in why
    assert "former champion version 1 has 0.5000" in why
    kept, why, version = attempt("worse", 0.55)
    assert (kept, version) == ("kept", "2")
    assert "version 3 has mIoU 0.5500" in why
    assert "not better: champion version 2 has 0.6000" in why
    kept, why, version = attempt("equal", 0.6)
    assert (kept, version) == ("kept", "2")
    kept, why, version = attempt("other protocol", 0.9, protocol_hash="0123456789")
    assert (kept, version) == ("kept", "2")
    assert "not comparable with champion version 2" in why
    assert "set_registered_model_alias('fmbseg', 'champion', 5)" in why
    assert attempt("other split", 0.9, split="val")[::2] == ("kept", "2")

    root = copy("no labels")
    candidate = client_of(root).get_model_version("fmbseg", "3")
    verdict = tracking_champion.crown(client_of(root), Workspace.open(root), candidate, None)
    assert verdict[0] is False
    assert "has no mIoU" in verdict[1]


def test_the_same_model_is_registered_once_and_new_figures_join_it(copy: Callable[[str], Path]):
    root = copy("a")
    first = track.fn(str(root))
    another_result(root, 0.77, retrained=False, split="val")
    second = track.fn(str(root))
    client = client_of(root)
    assert second != first
    (version,) = client.search_model_versions("name = 'fmbseg'")
    assert str(version.version) == client.get_run(second).data.tags["model_version"]
    assert version.run_id == first
    assert any(tag.startswith("miou.fmbseg.miniature.val.") for tag in version.tags)
    assert any(tag.startswith("miou.fmbseg.miniature.test.") for tag in version.tags)
    outputs = client.get_run(second).outputs.model_outputs
    assert [output.model_id for output in outputs] == [version.tags["model_id"]]
    assert "is the champion already" in client.get_run(second).data.tags["champion_reason"]


def test_the_registered_model_predicts_in_a_fresh_process_elsewhere(
    copy: Callable[[str], Path], tmp_path: Path
):
    root = copy("a")
    run_id = track.fn(str(root))
    workspace = Workspace.open(root)
    version = client_of(root).get_model_version_by_alias("fmbseg", "champion")
    assert "mIoU" in version.description
    assert "12 images of miniature" in version.description
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    installed.mkdir()
    elsewhere.mkdir()
    (installed / "fmbseg").symlink_to(REPOSITORY / "fmbseg")  # and neither tasks/ nor flows/
    paths = sorted((workspace.download / "test" / "images").iterdir())[:2]
    cut = tmp_path / "cut.png"
    Image.fromarray(read_image(paths[1])[:50, :70]).save(cut)
    program = """
import base64, json, sys
import mlflow, pandas as pd
uri, run, path, cut = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model("models:/fmbseg@champion")
data = open(path, "rb").read()
asked = [data, base64.b64encode(data).decode(), path, open(cut, "rb").read()]
default = model.predict(pd.DataFrame({"image": asked}))
one = pd.DataFrame({"image": asked[:1]})
chosen = model.predict(one, params={"classes": ["grass", "sky"]})
logged = mlflow.pyfunc.load_model(f"runs:/{run}/segmenter")
again = logged.predict(one)
words = str(model.metadata.signature)
json.dump([default, chosen, again, "tasks" in sys.modules, words], sys.stdout)
"""
    command = [sys.executable, "-c", program, workspace.params.tracking.uri, run_id, paths[0], cut]
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    default, chosen, again, imported, signature = json.loads(done.stdout)
    assert not imported
    segmenter = Segmenter.load(workspace.train, device="cpu")
    expected = segmenter.predict(paths[0], segmenter.trained_classes).labels
    assert default[0] == default[1] == default[2] == again[0] == expected.tolist()
    assert np.shape(default[3]) == (50, 70)
    expected = segmenter.predict(paths[0], ["grass", "sky"]).labels
    assert chosen[0] == expected.tolist()
    assert "binary" in signature
    assert "umbrella" in signature


KILLED_AT_STEP_40 = """
import os, signal, sys
from fmbseg.align import checkpoint
from tasks import tracking_live
from tasks.train import train

checkpoint._SECONDS_BETWEEN_TELLS = 0.0
real = tracking_live.log_points

def log_points(*arguments):
    last = real(*arguments)
    if last >= 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return last

tracking_live.log_points = log_points
train.fn(sys.argv[1])
"""


def test_a_killed_training_goes_on_in_its_run_without_doubled_steps(copy: Callable[[str], Path]):
    """Three steps an epoch; a checkpoint every ten epochs, so the last one is of step 30."""
    root = copy("a")
    workspace = set_params(root, train={"epochs": 25, "save_every_epochs": 10})
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED_AT_STEP_40, str(root)]
    killed = subprocess.run(command, cwd=root, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    client = client_of(root)
    (begun,) = parents(client)
    assert begun.info.status == "RUNNING"
    assert begun.data.params["train.epochs"] == "25"
    assert steps_of(client, begun.info.run_id) == list(range(1, 41))

    train.fn(str(root))
    history = read_json(workspace.train / "history.json")
    assert read_json(workspace.train / "timing.json")["steps"] == 75 - 30, "resumed"
    (resumed,) = parents(client)
    assert resumed.info.run_id == begun.info.run_id
    assert resumed.data.tags["resumed"] == "1"
    logged = client.get_metric_history(begun.info.run_id, "loss")
    assert [metric.step for metric in logged] == list(range(1, 76))
    assert [metric.value for metric in logged] == [point["loss"] for point in history]

    evaluate.run(workspace, "fmbseg-miniature")
    report.run(workspace)
    assert track.fn(str(root)) == begun.info.run_id
    assert client.get_run(begun.info.run_id).info.status == "FINISHED"
    assert steps_of(client, begun.info.run_id) == list(range(1, 76))


def test_a_training_that_mlflow_fails_is_finished_and_logged_later(
    copy: Callable[[str], Path],
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    root = copy("a")
    shutil.rmtree(root / "models")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = Workspace.open(root).params.tracking.uri
    set_params(root, tracking={"uri": "http://me:hidden@127.0.0.1:9"})
    train.fn(str(root))
    warnings = [r.getMessage() for r in caplog.records if "MLflow cannot" in r.getMessage()]
    assert len(warnings) == 1
    assert "hidden" not in warnings[0]
    weights = "models/train/alignment.safetensors"
    assert (root / weights).read_bytes() == (finished / weights).read_bytes()
    set_params(root, tracking={"uri": uri})
    run_id = track.fn(str(root))
    history = read_json(root / "models" / "train" / "history.json")
    assert steps_of(client_of(root), run_id) == [point["step"] for point in history]


def test_a_store_that_fails_midway_is_tried_again_after_a_pause(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    root = copy("a")
    real, calls = tracking_live.log_points, 0

    def unsure(*arguments: Any) -> int:
        """The second batch arrives, but its answer is lost; afterwards all is well."""
        nonlocal calls
        calls += 1
        last = real(*arguments)
        if calls == 2:
            raise MlflowException("API request failed")
        return last

    monkeypatch.setattr(tracking_live, "log_points", unsure)
    monkeypatch.setattr(tracking_live, "_FIRST_PAUSE_S", 0.2)
    points = [{"step": step, "epoch": 0, "loss": 1.0, "learning_rate": 0.1} for step in range(1, 7)]
    with tracking_live.training_log(str(root)) as on_points:
        for point in points[:4]:
            on_points([point])
        time.sleep(0.3)
        for point in points[4:]:
            on_points([point])
    (run,) = parents(client_of(root))
    assert steps_of(client_of(root), run.info.run_id) == [1, 2, 3, 4, 5, 6]
    assert "resumed" not in run.data.tags


def test_a_training_that_fails_or_is_given_up_does_not_look_as_if_it_ran(
    copy: Callable[[str], Path],
):
    root = copy("a")
    point = {"step": 1, "epoch": 0, "loss": 1.0, "learning_rate": 0.1}

    def fail(error: type[BaseException]) -> None:
        with tracking_live.training_log(str(root)) as on_points:
            on_points([point])
            raise error

    with pytest.raises(RuntimeError):
        fail(RuntimeError)
    (run,) = parents(client_of(root))
    assert run.info.status == "FAILED"
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt)
    (run,) = parents(client_of(root))
    assert run.info.status == "KILLED"
    with tracking_live.training_log(str(root)) as on_points:
        on_points([point])
    (run,) = parents(client_of(root))
    assert run.info.status == "RUNNING"
    set_params(root, train={"temperature": 0.3})
    with tracking_live.training_log(str(root)) as on_points:
        on_points([point])
    assert sorted(run.info.status for run in parents(client_of(root))) == ["KILLED", "RUNNING"]


def test_two_pipelines_at_once_leave_two_whole_runs_and_the_better_champion(
    copy: Callable[[str], Path],
):
    roots = [copy("a"), copy("b")]
    for root, miou in zip(roots, (0.7, 0.8), strict=True):
        another_result(root, miou)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda root: track.fn(str(root)), roots))
    client = client_of(roots[0])
    assert {run.info.run_id for run in parents(client)} == set(runs)
    assert all(client.get_run(run).info.status == "FINISHED" for run in runs)
    champion = client.get_model_version_by_alias("fmbseg", "champion")
    assert champion.run_id == runs[1]


def test_training_starts_from_the_champion_and_a_moved_champion_outdates_nothing(
    copy: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    fresh = copy("fresh")
    fresh_weights = (fresh / "models/train/alignment.safetensors").read_bytes()
    assert read_json(fresh / "models/train/segmenter.json")["init_from"] is None
    assert fetch_champion(str(fresh)) is None
    track.fn(str(fresh))
    assert not (fresh / "models/champion").exists(), "nobody asked for it"

    root = copy("a")
    workspace = set_params(root, train={"init_from": "champion"})
    assert fetch_champion(str(root)) == str(root / "models/champion")
    champion = root / "models/champion/alignment.safetensors"
    assert champion.read_bytes() == fresh_weights
    assert train_step.run(workspace)
    weights = workspace.train / "alignment.safetensors"
    started = weights.read_bytes()
    assert started != fresh_weights
    described = read_json(workspace.train / "segmenter.json")
    assert described["init_from"] == file_sha(champion)

    key = train_step.key(workspace)
    champion.write_bytes(started)
    assert train_step.key(workspace) == key
    assert not train_step.run(workspace)
    shutil.rmtree(root / "models/champion")
    assert train_step.key(workspace) == key
    weights.unlink()
    assert train_step.key(workspace) != key, "what is gone is trained from today's champion"
    assert train_step.run(workspace)
    assert "no weights in" in caplog.text
    assert weights.read_bytes() == fresh_weights
    assert read_json(workspace.train / "segmenter.json")["init_from"] is None


def test_a_champion_that_does_not_fit_gives_a_warning_and_fresh_weights(
    copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture
):
    root = copy("a")
    fresh = (root / "models/train/alignment.safetensors").read_bytes()
    shutil.copytree(root / "models/train", root / "models/champion")
    config = read_json(root / "models/champion/alignment.json")
    write_json(root / "models/champion/alignment.json", config | {"heads": 2})
    workspace = set_params(root, train={"init_from": "champion"})
    assert train_step.run(workspace)
    assert "do not fit" in caplog.text
    assert (workspace.train / "alignment.safetensors").read_bytes() == fresh
    assert read_json(workspace.train / "segmenter.json")["init_from"] is None
    (root / "models/champion/alignment.safetensors").write_bytes(b"other")
    assert not train_step.run(workspace)


def test_when_the_alias_moves_the_champion_at_hand_moves_where_training_starts_from_it(
    copy: Callable[[str], Path],
):
    root = copy("a")
    another_result(root, 0.4)
    track.fn(str(root))
    follower = copy("b")
    set_params(follower, train={"init_from": "champion"})
    another_result(follower, 0.6)
    weights = follower / "models/train/alignment.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    track.fn(str(follower))
    assert (follower / "models/champion/alignment.safetensors").read_bytes() == weights.read_bytes()
    assert not (root / "models/champion").exists()
