"""Take the documents' pictures: report, MLflow, DVC's plots, review page, server's page.

`python -m scripts.make_screenshots reports/report/index.html` writes docs/report.png (1280 px wide,
the top of the page) and docs/report_phone.png (390 px); `--mlflow sqlite:///mlflow.db` writes
docs/mlflow.png, the experiment's charts; `--mlflow-runs .` writes docs/figures/mlflow_compare.png
and mlflow_model.png, what `make mlflow` opens on and the newest model's page; `--dvc-plots REV REV
--vega FOLDER` writes docs/figures/dvc_plots.png (scripts/dvc_pictures.py says what the folder
holds); `--preview preview/index.html` writes docs/figures/preview.png, the top of what `fmbseg
preview` made; `--review .` writes docs/figures/review.png, an image of that workspace under review;
`--serve models/train` writes docs/figures/serve.png and serve_phone.png, an example on the page of
`fmbseg serve`, and serve_heat.png, a word's heat map there. Needs Chromium or Chrome on the PATH
(`apt-get install chromium`) and no network.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from fmbseg.steps.workspace import Workspace
from scripts import mlflow_pictures as mlflow
from scripts.browser import BROWSERS, PHONE, Page, find_browser, opened
from scripts.dvc_pictures import take_plots
from scripts.picture_files import fewer_colours, save

DOCS = Path(__file__).parents[1] / "docs"


def main() -> int:
    """Read the arguments, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", help="the report's index.html")
    parser.add_argument("--mlflow", metavar="URI", help="the database of the runs")
    parser.add_argument("--mlflow-runs", metavar="WORKSPACE", help="whose runs are compared")
    parser.add_argument("--dvc-plots", metavar="REV", nargs=2, help="commits or experiments here")
    parser.add_argument("--vega", type=Path, default=Path(), help="where its scripts are installed")
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
        arguments.mlflow_runs,
        arguments.dvc_plots,
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
    figures = arguments.out / "figures"
    with opened(browser) as page:
        if arguments.page is not None:
            report = arguments.page.resolve()
            take_report(page, report, arguments.out / "report.png", (1280, arguments.height))
            take_report(page, report, arguments.out / "report_phone.png", PHONE)
        if arguments.preview is not None:
            out = figures / "preview.png"
            take_report(page, arguments.preview.resolve(), out, (1280, arguments.height))
            with Image.open(out) as picture:  # many small photographs: 256 colours do
                picture.quantize(256).save(out, optimize=True)
        if arguments.mlflow is not None:
            with mlflow.mlflow_ui(arguments.mlflow) as address:
                url = mlflow.charts_url(address, arguments.experiment)
                mlflow.take_charts(page, url, arguments.out / "mlflow.png")
        if arguments.mlflow_runs is not None:
            take_runs(page, Workspace.open(arguments.mlflow_runs), figures)
        if arguments.dvc_plots is not None:
            take_plots(page, arguments.dvc_plots, arguments.vega, figures / "dvc_plots.png")
        if arguments.review is not None:
            with page_of("review", "--workspace", str(arguments.review), "--no-open") as address:
                take_review(page, address, figures / "review.png")
        if arguments.serve is not None:
            with page_of("serve", str(arguments.serve), "--port", "0") as address:
                take_served(page, address, figures)
    return 0


def take_report(page: Page, report: Path, out: Path, size_wh: tuple[int, int]) -> None:
    """Save the top of the report at a width and height in px."""
    page.open(report.as_uri(), size_wh)
    save(page, out, size_wh)


def take_runs(page: Page, workspace: Workspace, out: Path) -> None:
    """Save what `make mlflow` opens on, and the page of the newest model."""
    experiment = workspace.params.tracking.experiment
    with mlflow.mlflow_ui(mlflow.store_uri(workspace)) as address:
        url = mlflow.compared_url(address, workspace)
        mlflow.take_compared(page, url, out / "mlflow_compare.png")
        url = mlflow.model_url(address, experiment)
        mlflow.take_model(page, url, out / "mlflow_model.png")


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


if __name__ == "__main__":
    raise SystemExit(main())
