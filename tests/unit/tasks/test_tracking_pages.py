"""Which page of MLflow `make mlflow` opens, and how its server is started."""

import json
import shutil
import socket
import sys
import urllib.parse
from pathlib import Path

import pytest

from fmbseg.steps.workspace import Workspace
from tasks.tracking import show
from tasks.tracking.mlflow_client import pages
from tasks.tracking.mlflow_client.complete import MODEL
from tasks.tracking.mlflow_client.registry import register
from tasks.tracking.mlflow_client.store import RetryingClient, experiment_id
from tasks.tracking.promotion import CHALLENGER, CHAMPION
from tests.unit.tasks.test_tracking_promotion import workspace

TRACKER = "tasks.tracking.mlflow_client"


@pytest.fixture
def one(database: Path, tmp_path: Path) -> Workspace:
    """A workspace with an empty database of its own."""
    shutil.copyfile(database / "mlflow.db", tmp_path / "mlflow.db")
    return workspace(tmp_path / "one", f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "photos")


def finished_run(client: RetryingClient, workspace: Workspace, model: str) -> str:
    experiment = experiment_id(client, workspace)
    run = str(client.create_run(experiment, tags={MODEL: model}).info.run_id)
    client.create_run(experiment, tags={"mlflow.parentRunId": run})
    client.set_terminated(run)
    return run


def runs_in(fragment: str) -> list[str]:
    asked = urllib.parse.parse_qs(fragment.partition("?")[2])
    return [str(run) for run in json.loads(asked["runs"][0])]


def test_with_fewer_than_two_runs_there_is_a_page_all_the_same(one: Workspace):
    assert pages.opening_page(one).fragment == "#/experiments"
    client = RetryingClient(one.params.tracking.uri)
    experiment = experiment_id(client, one)
    assert pages.opening_page(one).fragment == f"#/experiments/{experiment}/runs"
    client.create_run(experiment, tags={MODEL: "a"})
    assert pages.opening_page(one).fragment == f"#/experiments/{experiment}/runs", "not finished"
    run = finished_run(client, one, "a")
    assert pages.opening_page(one).fragment == f"#/experiments/{experiment}/runs/{run}"


def test_the_last_two_runs_of_a_model_are_compared_until_there_is_a_challenger(one: Workspace):
    client = RetryingClient(one.params.tracking.uri)
    name = register(client, one)
    runs = [finished_run(client, one, model) for model in (name, name, "other", name)]
    page = pages.opening_page(one)
    assert runs_in(page.fragment) == [runs[3], runs[1]], "the newest first, of the same model"
    assert page.shows == f"{name}: the last two runs"
    for alias, run in ((CHAMPION, runs[0]), (CHALLENGER, runs[1])):
        version = client.create_model_version(name, source=f"file://{alias}", run_id=run)
        client.set_registered_model_alias(name, alias, version.version)
    page = pages.opening_page(one)
    assert runs_in(page.fragment) == runs[:2], "the champion first"
    assert page.shows == f"{name}: champion (version 1) beside challenger (version 2)"
    client.delete_run(runs[1])
    assert runs_in(pages.opening_page(one).fragment) == [runs[3], runs[0]]
    by_hand = client.create_model_version(name, source="file://by-hand")
    client.set_registered_model_alias(name, CHALLENGER, by_hand.version)
    assert runs_in(pages.opening_page(one).fragment) == [runs[3], runs[0]], "it has no run"


def test_the_server_listens_on_loopback_alone():
    command, environment = pages.server_of("sqlite:///a.db", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_taken_port_is_said_in_one_line(
    one: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["show", str(one.root), "--port", port])
        assert show.main() == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert port in said
    assert "make mlflow PORT=" in said


def test_of_a_server_the_address_is_shown_and_none_is_started(
    one: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(
        f"{TRACKER}.store_uri", lambda workspace: "http://user:secret@127.0.0.1:7000/"
    )
    page = pages.OpeningPage("#/experiments/1/runs", "something")
    monkeypatch.setattr(f"{TRACKER}.opening_page", lambda workspace: page)
    monkeypatch.setattr(sys, "argv", ["show", str(one.root)])
    assert show.main() == 0
    printed = capsys.readouterr().out
    assert "127.0.0.1:7000/#/experiments/1/runs" in printed
    assert "secret" not in printed
    assert len(opened) == 1
    monkeypatch.setattr(sys, "argv", ["show", str(one.root), "--no-open"])
    assert show.main() == 0
    assert len(opened) == 1
