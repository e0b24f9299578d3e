"""Registered models, which of them is the champion, and training from it."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.steps import train as train_step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_image, read_json, write_json
from tasks.tracking import fetch_champion, track
from tests.conftest import REPOSITORY
from tests.support.tracked_workspaces import (
    Copy,
    another_result,
    client_of,
    parents,
    set_params,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def test_the_same_model_is_registered_once_and_new_figures_join_it(copy: Copy):
    root = copy("a")
    first = track.fn(str(root))
    another_result(root, 0.77, retrained=False, split="val")
    second = track.fn(str(root))
    client = client_of(root)
    assert second != first
    (version,) = client.search_model_versions("name = 'fmbseg-miniature'")
    assert str(version.version) == client.get_run(second).data.tags["model_version"]
    assert version.run_id == first
    assert any(tag.startswith("miou.fmbseg.miniature.val.") for tag in version.tags)
    assert any(tag.startswith("miou.fmbseg.miniature.test.") for tag in version.tags)
    outputs = client.get_run(second).outputs.model_outputs
    assert [output.model_id for output in outputs] == [version.tags["model_id"]]
    assert "is the champion already" in client.get_run(second).data.tags["champion_reason"]


def test_the_registered_model_predicts_in_a_fresh_process_elsewhere(copy: Copy, tmp_path: Path):
    root = copy("a")
    run_id = track.fn(str(root))
    workspace = Workspace.open(root)
    version = client_of(root).get_model_version_by_alias("fmbseg-miniature", "champion")
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
model = mlflow.pyfunc.load_model("models:/fmbseg-miniature@champion")
data = open(path, "rb").read()
asked = [data, base64.b64encode(data).decode(), bytearray(data), open(cut, "rb").read()]
numbers = {"format": "labels"}
default = model.predict(pd.DataFrame({"image": asked}), params=numbers)
one = pd.DataFrame({"image": asked[:1]})
chosen = model.predict(one, params={"classes": ["grass", "sky"], **numbers})
logged = mlflow.pyfunc.load_model(f"runs:/{run}/segmenter")
again = logged.predict(one, params=numbers)
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


def test_two_pipelines_at_once_leave_two_whole_runs_and_the_better_champion(
    copy: Copy,
):
    roots = [copy("a"), copy("b")]
    for root, miou in zip(roots, (0.7, 0.8), strict=True):
        another_result(root, miou)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda root: track.fn(str(root)), roots))
    client = client_of(roots[0])
    assert {run.info.run_id for run in parents(client)} == set(runs)
    assert all(client.get_run(run).info.status == "FINISHED" for run in runs)
    champion = client.get_model_version_by_alias("fmbseg-miniature", "champion")
    assert champion.run_id == runs[1]


def test_training_starts_from_the_champion_and_a_moved_champion_outdates_nothing(
    copy: Copy, tmp_path: Path, caplog: pytest.LogCaptureFixture
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
    copy: Copy, caplog: pytest.LogCaptureFixture
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
    copy: Copy,
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
