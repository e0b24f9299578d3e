"""The stored notebooks: run from top to bottom, small, naming no machine, and pages of the site."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.notebook_pages import page_of
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))
notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [one for one in json.loads(path.read_text())["cells"] if one["cell_type"] == kind]


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["first_look", "your_own_photographs"]


@notebook
def test_a_notebook_was_run_from_top_to_bottom_without_an_error(path: Path):
    code = cells(path, "code")
    assert [one["execution_count"] for one in code] == list(range(1, len(code) + 1))
    kinds = [output["output_type"] for one in code for output in one["outputs"]]
    assert set(kinds) <= {"stream", "execute_result", "display_data"}
    assert "execute_result" in kinds


@notebook
def test_a_notebook_is_small_and_names_no_machine(path: Path):
    text = path.read_text()
    assert len(text) < 1_000_000
    for one in cells(path, "code"):
        shown = re.sub(r"[\w+/=\\]{200,}", "", json.dumps(one["outputs"]))
        assert not re.search(r'[\s"\'(](/root|/home|/tmp|/Users|/work)\b', shown)
        assert "\\u001b" not in shown, "colours of a terminal"


@notebook
def test_links_of_a_notebook_lead_to_files(path: Path):
    for one in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", "".join(one["source"])):
            assert (path.parent / target).is_file(), target


@notebook
def test_every_picture_of_a_notebook_has_words_for_who_cannot_see_it(path: Path):
    page = page_of(path)
    pictures = re.findall(r"<img ([^>]*?)src=", page)
    assert len(pictures) >= 2
    assert all(re.search(r'alt="[^"]{20,}"', one) for one in pictures)


@notebook
def test_a_notebooks_page_links_to_pages_of_the_site(path: Path):
    page = re.sub(r"base64,[^\"]*", "", page_of(path))
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page)
    others = {f"{one.stem}.md" for one in NOTEBOOKS}
    for target in targets:
        assert target in others or (REPOSITORY / "docs" / target).is_file(), target
    assert page.startswith("# ")
    assert page.count("```") % 2 == 0
