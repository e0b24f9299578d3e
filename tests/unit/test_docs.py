"""What the documents name exists: links, files, Makefile targets, pages of the site."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fmbseg.methods.table import METHODS
from fmbseg.steps.plan import PLAN
from tests.conftest import REPOSITORY
from tests.support.method_fakes import NAMES, ColourClip, image

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md",
         *sorted((REPOSITORY / "docs").glob("*.md"))]  # fmt: skip
NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))
ADDED = {"contributing.md", "changelog.md", *(f"{path.stem}.md" for path in NOTEBOOKS)}
"""Pages that the site gets from files beside docs/, and from notebooks."""
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def headings(text: str) -> set[str]:
    """Anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in found}


@page
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        if path in ADDED:
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file.read_text()), target


@page
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE)
    assert set(named) <= TARGETS


@page
def test_source_files_that_a_page_names_exist(page: Path) -> None:
    if page.name == "decisions.md":
        pytest.skip("decisions name files as they were called on the day")
    folders = "fmbseg|tasks|flows|tests|studies|scripts|benchmarks|docs"
    for named in re.findall(rf"`((?:{folders})/(?:[\w./-]*/|[\w/-]*\.\w+))`", page.read_text()):
        assert (REPOSITORY / named).exists() or f"`{named}`, new" in page.read_text(), named


def test_every_page_is_in_the_sites_navigation() -> None:
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w-]+\.md", str(nav))
    own = {path.name for path in PAGES if path.parent != REPOSITORY}
    assert sorted(listed) == sorted(own | ADDED)


def test_ci_calls_targets_of_the_makefile() -> None:
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text()
    called = set(re.findall(r'"([a-z0-9-]+)"', re.findall(r"target: (.*)", workflow)[0]))
    script = set(re.findall(r"^make (\S+)", (REPOSITORY / ".ci/run").read_text(), re.MULTILINE))
    assert script
    assert script | {"e2e"} == called
    assert called <= TARGETS


def test_the_tables_of_the_guide_for_contributors_stand_where_it_says() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    named = re.findall(r"^\| an? .*\| `(\w+)` in \[(\S+)\]", text, re.MULTILINE)
    assert len(named) == 6
    for name, file in named:
        assert re.search(rf"^(def )?{name}\b", (REPOSITORY / file).read_text(), re.MULTILINE), name


def test_the_new_files_of_the_guide_for_contributors_run() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    blocks = re.findall(r"^    ```python\n(.*?)^    ```$", text, re.MULTILINE | re.DOTALL)
    made: dict[str, Any] = {}
    for block in blocks:
        exec(textwrap.dedent(block), made)
    truth = np.zeros((8, 9), np.int64)
    truth[:, 5:] = 1
    counts = made["boundary_counts"](truth, truth, 3)
    assert counts.tolist() == [[16, 16, 0], [16, 16, 0]], "two columns on each side, no third class"
    assert made["boundary_iou"](counts) == 1
    method = made["WholeImageSegmentation"](ColourClip(), "whole_image")
    assert len(np.unique(method.segment(image(), NAMES).labels)) == 1


def test_the_page_of_the_method_lists_every_method() -> None:
    text = (REPOSITORY / "docs/how-it-works.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text.split("## Methods")[1], re.MULTILINE)
    assert dict(rows[: len(METHODS)]) == {name: one.summary for name, one in METHODS.items()}


def test_the_page_of_the_method_lists_every_step() -> None:
    text = (REPOSITORY / "docs/how-it-works.md").read_text().split("## From the method")[1]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [step.name for step in PLAN]


def test_the_first_screen_of_the_readme_shows_what_one_gets_of_ones_own_photographs() -> None:
    screen = (REPOSITORY / "README.md").read_text().split("\n## ")[0]
    picture = re.search(r"!\[([^\]]*mask[^\]]*prediction[^\]]*)\]\((docs/\w+\.png)\)", screen)
    assert picture is not None, "a picture of image, masks and prediction"
    assert (REPOSITORY / picture[2]).is_file()
    assert screen.index(picture[2]) < 1_000, "before the commands"
    assert "make run IMAGES=" in screen
    for where, how in (("data/pseudo_masks", "COCO"), ("models/train", "safetensors"),
                       ("predictions/", "PNG"), ("reports/report/index.html", "page")):  # fmt: skip
        (row,) = [line for line in screen.splitlines() if line.startswith("|") and where in line]
        assert how in row, "in which file, in which format"
    for needed in ("PROFILE=base", "fmbseg download --weights", "GPU", "fmbseg estimate"):
        assert needed in screen, "what real photographs need"
