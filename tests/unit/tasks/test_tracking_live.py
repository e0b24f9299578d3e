"""A training that MLflow is told of while it runs, whatever happens to either."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from fmbseg.steps import evaluate, report
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.steps import TASKS
from tasks.tracking import track
from tasks.tracking.mlflow_client import runs
from tasks.tracking.mlflow_client import training as tracking_live
from tests.conftest import REPOSITORY
from tests.support.tracked_workspaces import (
    Copy,
    client_of,
    parents,
    set_params,
    steps_of,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]


KILLED_AT_STEP_40 = """
import os, signal, sys
from fmbseg.align import checkpoint
from tasks.tracking.mlflow_client import runs
from tasks.steps import TASKS

checkpoint._SECONDS_BETWEEN_TELLS = 0.0
real = runs.log_points

def log_points(*arguments):
    last = real(*arguments)
    if last >= 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return last

runs.log_points = log_points
TASKS["train"].fn(sys.argv[1], "")
"""


def test_a_killed_training_goes_on_in_its_run_without_doubled_steps(copy: Copy):
    """A checkpoint after every step; points are told after it."""
    root = copy("a")
    workspace = set_params(root, train={"epochs": 25, "save_every_seconds": 0.0})
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED_AT_STEP_40, str(root)]
    killed = subprocess.run(command, cwd=root, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    client = client_of(root)
    (begun,) = parents(client)
    assert begun.info.status == "RUNNING"
    assert begun.data.params["train.epochs"] == "25"
    assert steps_of(client, begun.info.run_id) == list(range(1, 41))

    TASKS["train"].fn(str(root), "")
    history = read_json(workspace.train / "history.json")
    assert read_json(workspace.train / "timing.json")["steps"] == 75 - 40, "resumed"
    (resumed,) = parents(client)
    assert resumed.info.run_id == begun.info.run_id
    assert resumed.data.tags["resumed"] == "1"
    logged = client.get_metric_history(begun.info.run_id, "loss")
    assert [metric.step for metric in logged] == list(range(1, 76))
    assert [metric.value for metric in logged] == [point["loss"] for point in history]
    assert validated(client, begun.info.run_id) == read_json(workspace.train / "validation.json")

    evaluate.run(workspace, "fmbseg-miniature")
    report.run(workspace)
    assert track.fn(str(root)) == begun.info.run_id
    assert client.get_run(begun.info.run_id).info.status == "FINISHED"
    assert steps_of(client, begun.info.run_id) == list(range(1, 76))


def validated(client: Any, run: str) -> list[dict[str, float]]:
    """The run's validation curve as validation.json has it."""
    return [
        {"step": metric.step, "epoch": (metric.step - 1) // 3, "miou": metric.value, "images": 2}
        for metric in client.get_metric_history(run, "validation_miou")
    ]


def test_a_training_that_mlflow_fails_is_finished_and_logged_later(
    copy: Copy,
    small_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    root = copy("a")
    shutil.rmtree(root / "models")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = Workspace.open(root).params.tracking.uri
    set_params(root, tracking={"uri": "http://me:hidden@127.0.0.1:9"})
    TASKS["train"].fn(str(root), "")
    warnings = [r.getMessage() for r in caplog.records if "MLflow cannot" in r.getMessage()]
    assert len(warnings) == 1
    assert "hidden" not in warnings[0]
    weights = "models/train/alignment.safetensors"
    assert (root / weights).read_bytes() == (small_run / weights).read_bytes()
    set_params(root, tracking={"uri": uri})
    run_id = track.fn(str(root))
    history = read_json(root / "models" / "train" / "history.json")
    assert steps_of(client_of(root), run_id) == [point["step"] for point in history]
    curve = read_json(root / "models" / "train" / "validation.json")
    assert validated(client_of(root), run_id) == curve


def test_a_store_that_fails_midway_is_tried_again_after_a_pause(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
):
    root = copy("a")
    real, calls = runs.log_points, 0

    def unsure(*arguments: Any) -> int:
        """The second batch arrives, but its answer is lost; afterwards all is well."""
        nonlocal calls
        calls += 1
        last = real(*arguments)
        if calls == 2:
            raise MlflowException("API request failed")
        return last

    monkeypatch.setattr(runs, "log_points", unsure)
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
    copy: Copy,
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
