"""MLflow as its users meet it: in a browser, over the network, behind a model server."""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_json
from scripts import mlflow_pictures as pictures
from scripts.browser import find_browser, opened
from scripts.make_screenshots import take_runs
from tasks.steps import TASKS
from tasks.tracking import fetch_champion, track
from tests.conftest import REPOSITORY, SMALL
from tests.support.tracked_workspaces import another_result
from tests.unit.steps.test_steps import run_all
from tests.unit.tasks.test_tracking import set_params

pytestmark = [pytest.mark.e2e, pytest.mark.weights]
MLFLOW = str(Path(sys.executable).parent / "mlflow")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, tracked in a database of its own."""
    root = tmp_path_factory.mktemp("finished")
    shutil.copyfile(REPOSITORY / "params.yaml", root / "params.yaml")
    tracking = {"uri": f"sqlite:///{root}/mlflow.db"}
    run_all(set_params(root, **{**SMALL, "tracking": tracking}))
    track.fn(str(root))
    return root


@contextlib.contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """`mlflow <arguments>` on a free port of loopback; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [MLFLOW, *arguments, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=(folder / "server.log").open("w"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 240
        while not pictures.answers(f"{address}/health"):
            assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on the PATH")
def test_the_pages_of_mlflow_show_the_run_and_its_miou(finished: Path, tmp_path: Path):
    uri = Workspace.open(finished).params.tracking.uri
    client = MlflowClient(tracking_uri=uri)
    run_id = track.fn(str(finished))
    run = client.get_run(run_id)
    browser = find_browser()
    assert browser is not None
    with pictures.mlflow_ui(uri) as address, opened(browser) as page:
        charts = pictures.charts_url(address, "fmbseg")
        of_run = f"{address}/#/experiments/{run.info.experiment_id}/runs/{run_id}"
        report = f"{of_run}/artifacts/report/index.html"
        for url, words in (
            (charts, (run.info.run_name, "miou.fmbseg.miniature")),
            (of_run, (run.info.run_name, "miou.fmbseg.miniature", "stage1 on miniature",
                      f"{run.data.metrics['miou.stage1.miniature']:.3f}"[:5])),
        ):  # fmt: skip
            page.open(url, (1700, 3000))
            for name in words:
                page.until(f"document.body.innerText.includes({json.dumps(name)})", 120)
        page.open(report, (1700, 1000))
        page.until("document.documentElement.innerHTML.includes('mlflow-html-iframe')", 120)
        raw = f"{address}/get-artifact?path=report/index.html&run_uuid={run_id}"
        with urllib.request.urlopen(raw, timeout=60) as answer:
            assert answer.read() == (finished / "reports/report/index.html").read_bytes()
        pictures.take_charts(page, charts, tmp_path / "mlflow.png")
    with Image.open(tmp_path / "mlflow.png") as picture:
        assert picture.width > 1200
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 200, "not blank"


@pytest.mark.timeout(900)
@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome on the PATH")
def test_make_mlflow_opens_on_champion_beside_challenger_and_shows_what_differs(
    finished: Path, tmp_path: Path
):
    root = tmp_path / "again"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    set_params(root, train={"temperature": 0.3})
    another_result(root, 0.9)
    track.fn(str(root))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tasks.tracking.show", str(root), "--no-open", "--port", port]
    pages = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert pages.stdout is not None
        said = next(line for line in pages.stdout if line.startswith("mlflow: http"))
        assert "beside challenger (version 1)" in next(pages.stdout)
        address = said.split()[1]
        assert address.startswith(f"http://127.0.0.1:{port}/#/compare-runs?")
        browser = find_browser()
        assert browser is not None
        with opened(browser) as page:
            page.open(address, (1280, 2300))
            page.until("document.querySelectorAll('button[role=switch]').length > 1", 120)
            shown = page.text()
            assert "Comparing 2 Runs" in shown
            assert "data.benchmarks" in shown, "a parameter that is the same in both"
            pictures.show_differences(page, address, (1280, 2300))
            for name in ("train.temperature", "miou.fmbseg.miniature"):
                assert name in page.text(), "what differs"
            take_runs(page, Workspace.open(root), tmp_path)
        for name in ("mlflow_compare", "mlflow_model"):
            with Image.open(tmp_path / f"{name}.png") as picture:
                assert picture.width > 600
                colours = np.unique(np.asarray(picture).reshape(-1, 3), axis=0)
                assert len(colours) > 100, "not blank"
    finally:
        pages.send_signal(signal.SIGINT)
        assert pages.wait(60) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0, "the server ended with it"


def test_a_tracking_server_holds_the_same_as_a_database(finished: Path, tmp_path: Path):
    root, home = tmp_path / "workspace", tmp_path / "server"
    home.mkdir()
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    server = (
        "server", "--workers", "1", "--backend-store-uri", f"sqlite:///{home}/server.db",
        "--artifacts-destination", str(home / "kept"),
    )  # fmt: skip
    with serving(home, *server, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as address:
        workspace = set_params(root, tracking={"uri": address}, train={"init_from": "champion"})
        assert fetch_champion(str(root)) is None, "there is none yet"
        set_params(root, train={"init_from": None})
        (workspace.train / "alignment.safetensors").unlink()
        TASKS["train"].fn(str(root), "")
        client = MlflowClient(tracking_uri=address)
        experiment = client.get_experiment_by_name("fmbseg").experiment_id
        (running,) = client.search_runs([experiment])
        assert running.info.status == "RUNNING"
        run_id = track.fn(str(root))
        assert run_id == running.info.run_id
        assert track.fn(str(root)) == run_id
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["champion"] == "moved"
        steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
        history = read_json(workspace.train / "history.json")
        assert steps == [point["step"] for point in history]
        page = Path(client.download_artifacts(run_id, "report/index.html", str(tmp_path)))
        assert page.read_bytes() == (workspace.report / "index.html").read_bytes()
        set_params(root, train={"init_from": "champion"})
        fetched = fetch_champion(str(root))
    assert fetched is not None
    trained = workspace.train / "alignment.safetensors"
    assert file_sha(Path(fetched) / "alignment.safetensors") == file_sha(trained)
    assert any((home / "kept").rglob("alignment.safetensors"))
    assert not (root / "mlartifacts").exists()


@pytest.mark.timeout(900)
def test_the_served_champion_answers_a_json_request(finished: Path, tmp_path: Path):
    workspace = Workspace.open(finished)
    image = next(iter((workspace.download / "test" / "images").iterdir()))
    encoded = base64.b64encode(image.read_bytes()).decode()
    asked = {
        "dataframe_split": {"columns": ["image"], "data": [[encoded]]},
        "params": {"classes": ["grass", "cat", "sky"], "format": "labels"},
    }
    model = ("models", "serve", "-m", "models:/fmbseg-miniature@champion", "--env-manager", "local")
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "fmbseg").symlink_to(REPOSITORY / "fmbseg")
    environment = {
        "MLFLOW_TRACKING_URI": workspace.params.tracking.uri, "PYTHONPATH": str(installed)
    }  # fmt: skip
    with serving(tmp_path, *model, **environment) as address:
        request = urllib.request.Request(
            f"{address}/invocations", json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.load(answer)["predictions"]
    segmenter = Segmenter.load(workspace.train, device="cpu")
    expected = segmenter.predict(image, ["grass", "cat", "sky"]).labels
    assert found == [expected.tolist()]
