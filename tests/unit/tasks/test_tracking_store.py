import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image
from prefect.states import exception_to_failed_state
from prefect.utilities.asyncutils import run_coro_as_sync
from sqlalchemy.exc import OperationalError

from tasks.tracking import track
from tasks.tracking.confusion_picture import draw_confusion
from tasks.tracking.mlflow_client.store import artifact_folder, is_transient, with_retries
from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_two_processes_make_a_new_database_once_and_a_killed_one_spoils_none(tmp_path: Path):
    """MLflow alone leaves a file without its tables, in both cases."""
    (tmp_path / "mlartifacts" / ".fresh-killed").mkdir(parents=True)
    (tmp_path / "mlflow.db").touch()
    program = """
import sys
from tasks.tracking.mlflow_client.store import RetryingClient
print(len(RetryingClient(sys.argv[1]).search_experiments()))
"""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, uri], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        printed, trouble = process.communicate(timeout=120)
        assert printed == "1\n", trouble[-2000:]
    assert not list((tmp_path / "mlartifacts").glob(".fresh-*"))


def test_prefect_tries_again_only_where_waiting_can_help():
    assert track.retry_condition_fn is not None
    for error, again in (
        (OperationalError("select", {}, Exception("database is locked")), True),
        (MlflowException("API request failed"), True),
        (ValueError("wrong"), False),
    ):
        state = run_coro_as_sync(exception_to_failed_state(error))
        assert track.retry_condition_fn(track, None, state) is again


def test_only_a_busy_store_is_waited_for():
    busy = OperationalError("select", {}, Exception("database is locked"))
    assert is_transient(busy)
    assert not is_transient(MlflowException.invalid_parameter_value("no such run"))
    assert not is_transient(ValueError("else"))
    left = [busy, MlflowException("API request failed"), None]

    def call() -> str:
        error = left.pop(0)
        if error is not None:
            raise error
        return "done"

    assert with_retries(call, (0.0, 0.0)) == "done"
    left = [busy, busy]
    with pytest.raises(OperationalError):
        with_retries(call, (0.0,))
    left = [MlflowException.invalid_parameter_value("wrong"), None]
    with pytest.raises(MlflowException, match="wrong"):
        with_retries(call, (0.0, 0.0))


def test_artifacts_lie_beside_the_database_file_and_a_server_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert artifact_folder("sqlite:///mlflow.db") == tmp_path / "mlartifacts"
    assert artifact_folder(f"sqlite:///{tmp_path}/x/a.db") == tmp_path / "x" / "mlartifacts"
    assert artifact_folder("postgresql://u:p@host/db") == tmp_path / "mlartifacts"
    assert artifact_folder("http://127.0.0.1:5000") is None


@pytest.mark.parametrize("count", [2, 14, 60])
def test_a_confusion_matrix_of_any_size_gives_every_name_room(tmp_path: Path, count: int):
    matrix = np.eye(count, count + 1, dtype=np.int64) * 90
    matrix[0, count] = 10
    names = [f"class number {index}" for index in range(count)]
    draw_confusion(matrix, names, "stage1 on miniature test", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > count * 16


def test_class_names_full_of_markup_are_drawn_as_text(tmp_path: Path):
    names = ["$\\frac{$", "a\nb\x00", "\u202efig", "<b>|`"]
    draw_confusion(np.eye(4, 5, dtype=np.int64), names, "stage1 on $\\x$", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 100
