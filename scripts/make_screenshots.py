"""Take the documents' pictures of the report, of MLflow, of the review page and of the server's.

`python -m scripts.make_screenshots reports/report/index.html` writes docs/report.png (1280 px wide,
the top of the page) and docs/report_phone.png (390 px); `--mlflow sqlite:///mlflow.db` writes
docs/mlflow.png, the experiment's charts; `--preview preview/index.html` writes
docs/figures/preview.png, the top of what `fmbseg preview` made; `--review .` writes
docs/figures/review.png, an image of that workspace under review; `--serve models/train` writes
docs/figures/serve.png and serve_phone.png, an example on the page of `fmbseg serve`, and
serve_heat.png, a word's heat map there. Needs Chromium or Chrome on the
PATH (`apt-get install chromium`) and no network.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from scripts.browser import BROWSERS, PHONE, Page, find_browser, opened

DOCS = Path(__file__).parents[1] / "docs"
CHARTS = "compareRunsMode=CHART&workflowType=machine_learning"
ASSISTANT_SHARE = 0.26
"""Fraction of the window's width that MLflow's assistant takes on the right; it is cut off."""


def main() -> int:
    """Read the arguments, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", help="the report's index.html")
    parser.add_argument("--mlflow", metavar="URI", help="the database of the runs")
    parser.add_argument("--preview", type=Path, help="the page that `fmbseg preview` wrote")
    parser.add_argument("--review", metavar="WORKSPACE", type=Path, help="whose masks are pictured")
    parser.add_argument("--serve", metavar="MODEL", type=Path, help="the trained model's folder")
    parser.add_argument("--experiment", default="fmbseg", help="whose charts are pictured")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pictures")
    parser.add_argument("--height", type=int, default=1600, help="px of the wide picture")
    arguments = parser.parse_args()
    wanted = (
        arguments.page,
        arguments.mlflow,
        arguments.preview,
        arguments.review,
        arguments.serve,
    )
    if not any(wanted):
        parser.error("nothing to picture: name the report's index.html, or one of the options")
    for page_file, maker in ((arguments.page, "make run"), (arguments.preview, "fmbseg preview")):
        if page_file is not None and not page_file.is_file():
            parser.error(f"{page_file}: no such file; `{maker}` writes it")
    browser = find_browser()
    if browser is None:
        parser.error(f"no browser on the PATH (looked for {', '.join(BROWSERS)})")
    with opened(browser) as page:
        if arguments.page is not None:
            report = arguments.page.resolve()
            take_report(page, report, arguments.out / "report.png", (1280, arguments.height))
            take_report(page, report, arguments.out / "report_phone.png", PHONE)
        if arguments.preview is not None:
            out = arguments.out / "figures" / "preview.png"
            take_report(page, arguments.preview.resolve(), out, (1280, arguments.height))
            with Image.open(out) as picture:  # many small photographs: 256 colours do
                picture.quantize(256).save(out, optimize=True)
        if arguments.mlflow is not None:
            with mlflow_ui(arguments.mlflow) as address:
                url = experiment_url(address, arguments.experiment)
                take_mlflow(page, url, arguments.out / "mlflow.png")
        if arguments.review is not None:
            with page_of("review", "--workspace", str(arguments.review), "--no-open") as address:
                take_review(page, address, arguments.out / "figures" / "review.png")
        if arguments.serve is not None:
            with page_of("serve", str(arguments.serve), "--port", "0") as address:
                take_served(page, address, arguments.out / "figures")
    return 0


def take_report(page: Page, report: Path, out: Path, size_wh: tuple[int, int]) -> None:
    """Save the top of the report at a width and height in px."""
    page.open(report.as_uri(), size_wh)
    save(page, out, size_wh)


def take_mlflow(page: Page, url: str, out: Path) -> None:
    """Save a page of MLflow's without the assistant on its right."""
    page.open(url, (1700, 1000), settle_s=20)
    save(page, out, (round(1700 * (1 - ASSISTANT_SHARE)), 1000))


def take_review(
    page: Page, address: str, out: Path, size_wh: tuple[int, int] = (1280, 800)
) -> None:
    """Save the first image of a review with its most doubtful mask chosen."""
    page.open(address, size_wh)
    page.until("document.body.dataset.ready")
    page.press("ArrowRight")
    page.until("!document.getElementById('label').hidden")
    page.run("document.activeElement.blur()")
    save(page, out, size_wh)
    fewer_colours(out)


def take_served(page: Page, address: str, out: Path) -> None:
    """Save an example with its masks, wide and on a phone, and the heat map of one word."""
    ready = "document.body.dataset.ready"
    for name, size_wh in (("serve_phone.png", (390, 1290)), ("serve.png", (1280, 900))):
        page.open(address, size_wh)
        page.until("document.querySelectorAll('#examples img').length")
        page.run("document.querySelector('#examples button').click()")
        page.until(ready)
        page.run("document.activeElement.blur()")
        point_at(page, 0.62, 0.82)
        save(page, out / name, size_wh)
        if size_wh[0] > size_wh[1]:
            page.run("document.querySelector('#legend li:last-child button').click()")
            page.until("!document.getElementById('scale').hidden")
            point_at(page, 0.5, 0.4)
            save(page, out / "serve_heat.png", size_wh)
    for name in ("serve.png", "serve_phone.png", "serve_heat.png"):
        fewer_colours(out / name)


def fewer_colours(path: Path) -> None:
    """Write a picture again with the noise of a photograph left out, at a third of the size."""
    with Image.open(path) as picture:
        few = picture.point(lambda value: round(value / 5) * 5)
    few.save(path, optimize=True)


def point_at(page: Page, right: float, down: float) -> None:
    """Move the mouse over the photograph, to fractions of its width and height."""
    box = "document.getElementById('shown').getBoundingClientRect()"
    x, y = page.run(
        f"(({{x, y, width, height}}) => [x + width * {right}, y + height * {down}])({box})"
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.until("document.getElementById('below').textContent")


@contextlib.contextmanager
def page_of(command: str, *options: str) -> Iterator[str]:
    """A command of fmbseg that serves a page; yields the page's address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "fmbseg.cli", command, *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield next(word for word in server.stdout.readline().split() if word.startswith("http"))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def save(page: Page, out: Path, size_wh: tuple[int, int]) -> None:
    """Save the top left of what the browser shows."""
    page.save(out)
    with Image.open(out) as picture:
        cropped = picture.crop((0, 0, *size_wh)).convert("RGB")
    cropped.save(out, optimize=True)
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
