"""A long task in Prefect's pages: lines and a progress artifact."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client, task
from prefect.task_runners import ThreadPoolTaskRunner

from fmbseg import progress as module
from fmbseg.progress import Report, progress
from fmbseg.steps.plan import unit_named
from fmbseg.steps.workspace import Workspace
from tasks import progress as shown
from tasks.task_logging import run_unit

pytestmark = pytest.mark.slow


class Lines(logging.Logger):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("lines")
        self.found: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "EVERY_S", 0.05)
    log = Lines()
    monkeypatch.setattr(shown, "run_log", lambda: log)
    monkeypatch.setattr("tasks.task_logging.run_log", lambda: log)
    return log.found


def artifacts() -> list[Any]:
    with get_client(sync_client=True) as client:
        return [one for one in client.read_artifacts() if one.type == "progress"]


def wait_until(found: list[str], words: str) -> None:
    until = time.monotonic() + 30
    while not any(words in line for line in found):
        assert time.monotonic() < until, found
        time.sleep(0.005)


def test_a_long_task_has_lines_and_one_progress_artifact_that_moves(
    prefect_server, said: list[str], small_workspace: Path
):
    workspace = Workspace.open(small_workspace)
    seen: dict[str, float] = {}

    def run(unit: str) -> bool:
        with progress(unit, total=4, unit="step") as done:
            done.update(loss=0.5)
            wait_until(said, f"{unit}: 25 % (1 of 4 steps)")
            seen.update({one.key: one.data for one in artifacts() if one.data})
            done.update(3)
        return False

    @task
    def long_task(unit: str) -> None:
        step, _, name = unit.partition(" ")
        run_unit(unit_named(workspace, step, name), lambda: run(unit))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def two_at_once() -> None:
        for future in [long_task.submit(unit) for unit in ("train", "evaluate a-b")]:
            future.result()

    two_at_once()
    wait_until(said, "train: 4 steps in")
    wait_until(said, "evaluate a-b: 4 steps in")
    assert any("loss 0.5" in line for line in said)
    found = {one.key: one for one in artifacts()}
    assert set(found) == {"progress-train", "progress-evaluate"}
    assert {one.data for one in found.values()} == {100.0}
    assert "train: 4 steps in" in found["progress-train"].description
    assert all(one.task_run_id for one in found.values()), "each on its task's page"


def test_prefect_without_artifacts_leaves_the_lines_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
):
    calls = []

    def fails(*arguments: Any, **options: Any) -> None:
        calls.append(threading.current_thread())
        raise ConnectionError("no server")

    monkeypatch.setattr(shown, "create_progress_artifact", fails)
    told = shown.TaskProgress("train")
    for done in (1, 2):
        told(Report("train", "step", done, 4, done, 10.0))
    assert len(calls) == 1
    assert [line.split(" (")[0] for line in said] == [
        "train: 25 %",
        "Prefect's progress artifact cannot be written now: no server",
        "train: 50 %",
    ]
