"""Pictures of MLflow's pages: an experiment's charts, two runs compared, a model's page."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmbseg.steps.workspace import Workspace
from scripts.browser import Page
from scripts.picture_files import save
from tasks.tracking import tracker

CHARTS = "compareRunsMode=CHART&workflowType=machine_learning"
ASSISTANT_SHARE = 0.26
"""Fraction of the window's width that MLflow's assistant takes on the right; it is cut off."""
store_uri = tracker.store_uri
SWITCHES = "document.querySelectorAll('button[role=switch]')"
"""Those of "Show diff only", one of the parameters and one of the metrics."""


def take_charts(page: Page, url: str, out: Path) -> None:
    """Save the charts of an experiment."""
    page.open(url, (1700, 1000), settle_s=20)
    save(page, out, (round(1700 * (1 - ASSISTANT_SHARE)), 1000))


def take_compared(page: Page, url: str, out: Path) -> None:
    """Save the comparison of two runs, of which both tables show what differs."""
    _fold_panels(page, url)
    show_differences(page, url, (980, 2300))
    for folded in ("Visualizations", "Run details"):
        page.run(
            "[...document.querySelectorAll('[role=button]')]"
            f".find(one => one.innerText === '{folded}').click()"
        )
    _save_main(page, out, 770)


def show_differences(page: Page, url: str, size_wh: tuple[int, int]) -> None:
    """Open a comparison and switch "Show diff only" on, in all tables."""
    page.open(url, size_wh)
    page.until(f"{SWITCHES}.length > 1", 120)
    page.run(f"{SWITCHES}.forEach(one => one.click())")
    page.until("!document.body.innerText.includes('data.benchmarks')")


def take_model(page: Page, url: str, out: Path) -> None:
    """Save the page of a model: its card, and what belongs to it."""
    _fold_panels(page, url)
    page.open(url, (1200, 1200))
    page.until("document.body.innerText.includes('IoU of each class')", 120)
    _save_main(page, out, 945)


def _fold_panels(page: Page, url: str) -> None:
    """Put away the menu on the left and the assistant on the right; the browser remembers it."""
    page.open(url, (1100, 900))
    page.until("document.querySelector('main')", 120)
    for label in ("Close", "Toggle sidebar"):
        page.run(f"document.querySelector('button[aria-label=\"{label}\"]')?.click()")
    time.sleep(1)


def _save_main(page: Page, out: Path, height: int) -> None:
    time.sleep(3)  # what was folded slides
    box = page.run(
        "(({x, y, width}) => [x, y, width])(document.querySelector('main').getBoundingClientRect())"
    )
    left, top, width = map(round, box)
    save(page, out, (width, height), (left, top))


@contextlib.contextmanager
def mlflow_ui(uri: str, wait_s: float = 120) -> Iterator[str]:
    """The server of `make mlflow` on a free port of loopback; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = tracker.server_of(uri, port)
    address, quiet = f"http://127.0.0.1:{port}", subprocess.DEVNULL
    server = subprocess.Popen(
        command, env=dict(environment), stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        deadline = time.monotonic() + wait_s
        while not answers(f"{address}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"mlflow ui did not come up (exit code {server.poll()})")
            time.sleep(0.5)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def charts_url(address: str, name: str) -> str:
    """The page of an experiment's charts."""
    return f"{address}/#/experiments/{_experiment(address, name)}/runs?{CHARTS}"


def compared_url(address: str, workspace: Workspace) -> str:
    """The page that `make mlflow` opens on."""
    return f"{address}/{tracker.opening_page(workspace).fragment}"


def model_url(address: str, name: str) -> str:
    """The page of an experiment's newest model."""
    experiment = _experiment(address, name)
    body = {"experiment_ids": [experiment], "max_results": 1}
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/logged-models/search", json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    newest = _asked(request)["models"][0]["info"]["model_id"]
    return f"{address}/#/experiments/{experiment}/models/{newest}"


def _experiment(address: str, name: str) -> str:
    asked = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    return str(_asked(asked)["experiment"]["experiment_id"])


def _asked(request: str | urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
