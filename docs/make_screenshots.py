"""Picture the report and MLflow for the documents.

`python docs/make_screenshots.py reports/report/index.html` writes docs/report.png (1280 px wide,
the top of the page) and docs/report_phone.png (390 px); `--mlflow sqlite:///mlflow.db` writes
docs/mlflow.png, the experiment's charts. Needs Chromium or Chrome on the PATH
(`apt-get install chromium`) and no network.
"""

import argparse
import contextlib
import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HERE = Path(__file__).parent
CHARTS = "compareRunsMode=CHART&workflowType=machine_learning"
ASSISTANT_SHARE = 0.26
"""Of the width: MLflow's assistant on the right, which is cut off."""


def main() -> int:
    """Read the arguments, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", help="the report's index.html")
    parser.add_argument("--mlflow", metavar="URI", help="the database of the runs")
    parser.add_argument("--experiment", default="fmbseg", help="whose charts are pictured")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures")
    parser.add_argument("--height", type=int, default=1600, help="px of the wide picture")
    arguments = parser.parse_args()
    browser = find_browser()
    if browser is None:
        parser.error(f"no browser on the PATH (looked for {', '.join(BROWSERS)})")
    if arguments.page is None and arguments.mlflow is None:
        parser.error("nothing to picture: name the report's index.html, or --mlflow and a database")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.page is not None:
        if not arguments.page.is_file():
            parser.error(f"{arguments.page}: no such file; `make run` writes it")
        page = arguments.page.resolve()
        take_report(browser, page, arguments.out / "report.png", (1280, arguments.height))
        take_report(browser, page, arguments.out / "report_phone.png", (390, 844))
    if arguments.mlflow is not None:
        with mlflow_ui(arguments.mlflow) as address:
            page_url = experiment_url(address, arguments.experiment)
            take_mlflow(browser, page_url, arguments.out / "mlflow.png")
    return 0


def find_browser() -> str | None:
    """Path of the first browser there is."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def browse(browser: str, url: str, action: str, size_wh: tuple[int, int], budget_ms: int) -> str:
    """Open a page headless in a profile of its own; `action` is a flag of Chromium's.

    Returns:
        What the browser printed: the page's elements where the action is `--dump-dom`.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", f"--user-data-dir={profile}",
            f"--window-size={size_wh[0]},{size_wh[1]}", f"--virtual-time-budget={budget_ms}",
            action, url,
        ]  # fmt: skip
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=120
        ).stdout


def take_report(browser: str, page: Path, out: Path, size_wh: tuple[int, int]) -> None:
    """Save the top of the page at a width and height in px.

    A headless window is never narrower than 500 px, so the page is shown in a frame of the wanted
    size, whose width is what the page's own layout rules see.
    """
    width, height = size_wh
    with tempfile.TemporaryDirectory() as folder:
        frame, shot = Path(folder) / "frame.html", Path(folder) / "shot.png"
        frame.write_text(
            f'<!doctype html><body style="margin:0"><iframe src="{html.escape(page.as_uri())}" '
            f'width="{width}" height="{height}" style="border:0;display:block"></iframe>'
        )
        window = (max(width, 600), height + 200)
        browse(browser, frame.as_uri(), f"--screenshot={shot}", window, 5000)
        save(shot, out, (width, height))


def take_mlflow(browser: str, url: str, out: Path) -> None:
    """Save a page of MLflow's."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        browse(browser, url, f"--screenshot={shot}", (1700, 1000), 90_000)
        save(shot, out, (round(1700 * (1 - ASSISTANT_SHARE)), 1000))


def save(shot: Path, out: Path, size_wh: tuple[int, int]) -> None:
    """The picture's top left."""
    with Image.open(shot) as picture:
        picture.crop((0, 0, *size_wh)).convert("RGB").save(out, optimize=True)
    print(f"wrote {out} ({size_wh[0]} x {size_wh[1]} px)")


@contextlib.contextmanager
def mlflow_ui(uri: str, wait_s: float = 120) -> Iterator[str]:
    """The server of `make mlflow` on a free port of loopback; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "mlflow"), "ui", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1", "--backend-store-uri", uri,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    address = f"http://127.0.0.1:{port}"
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
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


def experiment_url(address: str, name: str) -> str:
    """The page of an experiment's charts."""
    asked = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name={name}"
    with urllib.request.urlopen(asked, timeout=30) as answer:
        number = json.load(answer)["experiment"]["experiment_id"]
    return f"{address}/#/experiments/{number}/runs?{CHARTS}"


if __name__ == "__main__":
    raise SystemExit(main())
