"""Picture the report for the README: `python docs/make_screenshots.py reports/report/index.html`.

Writes docs/report.png (1280 px wide, the top of the page) and docs/report_phone.png (390 px).
Needs Chromium or Chrome on the PATH (`apt-get install chromium`) and no network.
"""

import argparse
import html
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HERE = Path(__file__).parent


def main() -> int:
    """Read the arguments, take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="the report's index.html")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures")
    parser.add_argument("--height", type=int, default=1600, help="px of the wide picture")
    arguments = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        parser.error(f"no browser on the PATH (looked for {', '.join(BROWSERS)})")
    if not arguments.page.is_file():
        parser.error(f"{arguments.page} is not there; `make run` writes reports/report/index.html")
    page = arguments.page.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    take(browser, page, arguments.out / "report.png", (1280, arguments.height))
    take(browser, page, arguments.out / "report_phone.png", (390, 844))
    return 0


def take(browser: str, page: Path, out: Path, size_wh: tuple[int, int]) -> None:
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
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-background-networking", f"--user-data-dir={folder}/profile",
            f"--window-size={max(width, 600)},{height + 200}", "--virtual-time-budget=5000",
            f"--screenshot={shot}", frame.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as picture:
            picture.crop((0, 0, width, height)).convert("RGB").save(out, optimize=True)
    print(f"wrote {out} ({width} x {height} px)")


if __name__ == "__main__":
    raise SystemExit(main())
