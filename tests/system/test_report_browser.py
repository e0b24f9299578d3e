"""The report's script in a browser, where there is one: sorting, filtering, enlarging."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fmbseg.report.page import build_report
from scripts.browser import WIDE, find_browser, opened
from tests.unit.report.test_report import FULL, row

BROWSER = find_browser()
ACTED = """<script>
const press = (key) => document.getElementById("enlarged").dispatchEvent(
  new KeyboardEvent("keydown", {key: key, bubbles: true, cancelable: true}));
const said = (name, value) => document.body.setAttribute("data-" + name, value);
window.onload = () => {
  const sort = document.querySelectorAll("#results button.sort")[1];
  const first = () => sort.closest("table").tBodies[0].rows[0].cells[0].textContent;
  sort.click(); said("down", first());
  sort.click(); said("up", first());
  said("sorted", sort.closest("th").getAttribute("aria-sort"));
  const field = document.getElementById("filter");
  field.value = "SKY"; field.dispatchEvent(new Event("input"));
  said("rows", document.querySelectorAll("#classes tbody tr:not([hidden])").length);
  field.value = "zebra"; field.dispatchEvent(new Event("input"));
  said("none", document.querySelector(".gallery").classList.contains("empty"));
  field.value = ""; field.dispatchEvent(new Event("input"));
  const title = () => document.getElementById("enlarged-title").textContent;
  const buttons = document.querySelectorAll("#gallery button.shot");
  buttons[1].click(); said("open", document.getElementById("enlarged").open + " " + title());
  press("ArrowRight"); said("next", title());
  press("m"); said("bare", document.querySelector("#stage .layer").style.display);
  document.getElementById("enlarged").close();
  setTimeout(() => said("focus", document.activeElement === buttons[2]), 50);
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser on the PATH")
def test_the_report_sorts_filters_and_enlarges_in_a_browser(tmp_path: Path) -> None:
    content = replace(FULL, gallery=(row("a.png"), row("b.png", 1)))
    build_report(tmp_path / "index.html", content)
    page = (tmp_path / "index.html").read_text()
    page = re.sub("<meta http-equiv=[^>]*>", "", page).replace("</body>", f"{ACTED}</body>")
    (tmp_path / "acted.html").write_text(page)
    url = (tmp_path / "acted.html").as_uri()
    assert BROWSER is not None
    with opened(BROWSER) as shown:
        shown.open(url, WIDE)
        found = shown.run("({...document.body.dataset})")
    assert found == {
        "down": "fmbseg", "up": "maskclip", "sorted": "ascending", "rows": "1", "none": "true",
        "open": "true a.png: masks of stage 1.1",
        "next": "a.png: masks of stage 1.2", "bare": "none", "focus": "true",
    }  # fmt: skip
