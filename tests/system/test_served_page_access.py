"""The server's page without a mouse and without eyes: keys alone, and what a screen reader gets."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.browser import WIDE, Page, find_browser, opened
from tests.support.running_server import until
from tests.support.serve_process import Served, served
from tests.support.served_page import READY, give, text, words
from tests.support.trained_folder import TRAINED, trained_folder

BROWSER = find_browser()
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no browser on the PATH"),
    pytest.mark.weights, pytest.mark.e2e,
]  # fmt: skip
WORDS = "sky, road, cat, quux, boat, sand, fish, house, tree"
NAMED = {"button", "textbox", "checkbox", "slider", "application", "list", "heading", "image"}
"""Roles that say nothing without a name."""
CONTRAST = """
(() => {
  const pen = new OffscreenCanvas(1, 1).getContext('2d');
  const light = (colour) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const style = (one) => getComputedStyle(one);
  const ground = (one) =>
    style(one).backgroundColor === 'rgba(0, 0, 0, 0)' ? ground(one.parentElement) : style(one);
  return [...document.querySelectorAll('h1, h2, p, label, button, span, figcaption')]
    .filter((one) => one.innerText && one.getClientRects().length)
    .map((one) => [one.innerText, light(style(one).color), light(ground(one).backgroundColor)])
    .map(([text, ink, paper]) => [text.slice(0, 30), Math.max(ink / paper, paper / ink)]);
})()
"""
"""Text and contrast of what can be read, as WCAG measures it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)
    with served(model, tmp_path_factory.mktemp("empty")) as found:
        yield found


@pytest.fixture
def page(server: Served) -> Iterator[Page]:
    assert BROWSER is not None
    with opened(BROWSER) as found:
        found.open(server.address, WIDE)
        found.until("document.querySelectorAll('#examples img').length === 4")
        yield found


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if page.run(f"document.activeElement.matches({wanted!r})"):
            return
        page.press("Tab")
    raise AssertionError(f"Tab never comes to {wanted}")


def test_everything_can_be_done_with_keys_alone(page: Page, tmp_path: Path):
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.press("Tab")
    assert page.run("document.activeElement.id") == "classes", "the first stop is where one types"
    tab_to(page, "#file")
    tab_to(page, "#examples button:nth-child(2)")
    page.press("Enter")
    page.until(f"{READY} === 1")
    page.run("document.activeElement.blur()")
    tab_to(page, "#classes")
    page.run("document.activeElement.select()")
    page.call("Input.insertText", text=WORDS)
    page.press("Enter")
    page.until(f"{READY} === 2")
    tab_to(page, "#shown")
    assert page.run("getComputedStyle(document.getElementById('keys')).display") == "block"
    said = set()
    for key in ("ArrowRight", *["ArrowDown"] * 11, *["ArrowLeft"] * 11):
        page.press(key)
        said.add(text(page, "spoken"))
        assert text(page, "spoken") == text(page, "below")
    assert len(said) > 3
    assert all(", confidence " in one for one in said)
    tab_to(page, "#opacity")
    before = page.run("document.getElementById('opacity').value")
    page.press("ArrowLeft")
    assert int(page.run("document.getElementById('opacity').value")) == int(before) - 1
    tab_to(page, "#legend input")
    page.press(" ")
    assert page.run("document.querySelector('#legend input').checked") is False
    tab_to(page, "#missing button")
    page.press("Enter")
    page.until("document.querySelector('#missing button').getAttribute('aria-pressed') === 'true'")
    tab_to(page, "#png")
    page.press("Enter")
    until(lambda: [one.suffix for one in tmp_path.iterdir()] == [".png"], 20)


def test_what_has_the_focus_can_be_seen(page: Page):
    give(page)
    words(page, WORDS)
    page.run("document.activeElement.blur()")
    seen = set()
    for _ in range(40):
        page.press("Tab")
        here = page.run("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        if here in seen or page.run("document.activeElement === document.body"):
            break  # once around
        seen.add(here)
        around = (
            "(() => { const one = document.activeElement; const shown = one.id === 'file' ? "
            "one.parentElement : one; const style = getComputedStyle(shown); "
            "return [style.outlineStyle, parseFloat(style.outlineWidth)] })()"
        )
        style, width = page.run(around)
        assert style != "none", here
        assert width >= 2, here
    assert len(seen) > 20


def tree(page: Page) -> list[dict[str, Any]]:
    """Role, name and properties of what a screen reader is told of."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    return [
        {"role": one["role"]["value"], "name": one.get("name", {}).get("value", ""),
         "description": one.get("description", {}).get("value", ""),
         **{found["name"]: found["value"].get("value") for found in one.get("properties", ())}}
        for one in nodes if not one["ignored"]
    ]  # fmt: skip


def test_a_screen_reader_is_told_roles_names_states_and_what_changes(page: Page):
    first = tree(page)
    assert {"role": "RootWebArea", "name": "FMbSeg: words in, masks out"}.items() <= first[
        0
    ].items()
    (typed,) = (one for one in first if one["role"] == "textbox")
    assert typed["name"] == "Words"
    assert "Commas part the words" in typed["description"]
    pictures = [one["name"] for one in first if one["role"] == "image"]
    assert len(pictures) == 4
    assert all(name.startswith("Example: ") for name in pictures)
    give(page)
    words(page, WORDS)
    found = tree(page)
    for one in found:
        if one["role"] in NAMED:
            assert one["name"], one
    roles = Counter(one["role"] for one in found)
    assert roles["status"] == 2
    live = [one for one in found if one["role"] == "status"]
    assert all(one["live"] == "polite" for one in live)
    present, missing = (
        page.run(f"[...document.querySelectorAll('#{name} li')].length")
        for name in ("legend", "missing")
    )
    assert roles["checkbox"] == present > 0
    assert missing > 0
    assert roles["list"] == 2
    assert {"Found", "Nothing like this"} <= {one["name"] for one in found}
    heat = [one for one in found if one["name"].startswith("Heat map of ")]
    assert {one["name"] for one in heat} == {f"Heat map of {name}" for name in WORDS.split(", ")}
    assert {one["pressed"] for one in heat} == {"false"}
    (canvas,) = (one for one in found if one["role"] == "application")
    assert canvas["name"].startswith("The photograph with masks of: ")
    assert "Arrow keys" in canvas["description"]
    assert canvas["focusable"]
    (slider,) = (one for one in found if one["role"] == "slider")
    assert slider["name"] == "Opacity"
    assert next(one for one in found if one["role"] == "heading")["name"] == "Words in, masks out"


def test_words_can_be_read_on_what_lies_behind_them_in_light_and_dark(page: Page):
    give(page)
    words(page, WORDS)
    for scheme in ("light", "dark"):
        chosen = [{"name": "prefers-color-scheme", "value": scheme}]
        page.call("Emulation.setEmulatedMedia", features=chosen)
        found = page.run(CONTRAST)
        assert len(found) > 20
        assert [one for one in found if one[1] < 4.5] == [], scheme
