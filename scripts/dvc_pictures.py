"""A picture of `dvc plots diff`, drawn by Vega's scripts out of a folder of this machine.

The page that DVC writes by itself fetches them from a network. `npm install vega vega-lite
vega-embed` in an empty folder makes the one that is wanted here.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.browser import Page
from scripts.picture_files import save

SCRIPTS = ("vega", "vega-lite", "vega-embed")
METHOD = "fmbseg-miniature"
"""The method and data set whose bars and confusions are pictured."""
SIZE_WH = (1000, 845)
"""Of the picture, px."""
_PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><style>
body {{ margin: 0 }}
body > div:not({shown}) {{ display: none !important }}
{shown} {{ display: inline-block; vertical-align: top; padding: 8px 24px 0 8px }}
</style>{scripts}</head><body>{{plot_divs}}</body></html>
"""


def take_plots(page: Page, revisions: Sequence[str], vega: Path, out: Path) -> None:
    """Save the loss, and of one method the IoU of each class and the confusions, of two revisions.

    The repository is that of the current folder.

    Args:
        page: of a browser.
        revisions: two commits, tags or experiments.
        vega: folder with `node_modules/` of `SCRIPTS`.
        out: the picture.

    Raises:
        FileNotFoundError: a script is not there.
    """
    files = [vega / "node_modules" / name / "build" / f"{name}.min.js" for name in SCRIPTS]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file; `npm install {' '.join(SCRIPTS)}` in {vega} brings it"
            )
    tags = "".join(f'<script src="{file.resolve().as_uri()}"></script>' for file in files)
    names = ("loss", f"iou_{METHOD}", f"confusion_{METHOD}")
    shown = ", ".join(f"#reports_report_plots_{name}_json" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "page.html"
        template.write_text(_PAGE.format(scripts=tags, shown=shown))
        subprocess.run(
            [sys.executable, "-m", "dvc", "plots", "diff", *revisions, "--html-template",
             str(template), "--out", folder],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        page.open((Path(folder) / "index.html").as_uri(), SIZE_WH)
        drawn = ", ".join(f"{one} .marks" for one in shown.split(", "))
        page.until(f"document.querySelectorAll('{drawn}').length === {len(names)}")
        save(page, out, SIZE_WH)
