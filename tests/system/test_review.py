"""The review page in a browser: keys, crashes, two tabs, many images, hostile names, touch."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fmbseg.corrections.store import read_correction, read_corrections
from fmbseg.steps.workspace import Workspace
from fmbseg.store import decode_rle
from scripts.browser import PHONE, Page, find_browser, opened
from tests.support.review_server import QUICK_S, RETRIES, SAVED, act, serving, show, text
from tests.support.review_workspace import CLASSES, MASKS, SIZE_HW, Drawn, review_workspace

BROWSER = find_browser()
TABLET = (820, 1180)
SMALL: tuple[Drawn, ...] = (("1.1", 0, (0, 0, 4, 4), 0.9),)
HOSTILE = "<img src=x onerror=document.title='cracked'> & \"q\" 'é'.png"
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser on the PATH")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with opened(BROWSER) as found:
        yield found


def painted(workspace: Workspace, image: str) -> np.ndarray:
    """Class of every pixel that a person left, -1 for none."""
    labels = np.full(SIZE_HW, -1)
    for one in reversed(read_correction(workspace.corrections, image).regions):
        labels[decode_rle(one.rle)] = CLASSES.index(one.class_name)
    return labels


def left(workspace: Workspace, image: str) -> list[tuple[str, str]]:
    """Class and origin of what a person left standing."""
    found = read_correction(workspace.corrections, image)
    assert found is not None
    return [(one.class_name, one.origin) for one in found.regions]


@pytest.mark.slow
def test_names_full_of_html_are_text_and_an_image_is_put_right_by_keys(tmp_path: Path, page: Page):
    workspace = review_workspace(tmp_path, {HOSTILE: MASKS, "z.png": MASKS})
    with serving(tmp_path) as server:
        show(page, server)
        assert text(page, "name") == HOSTILE
        assert "<b>car</b>" in text(page, "classes")
        assert page.run("document.title").startswith("Review: ")
        assert page.run("document.querySelectorAll('img, b, i').length") == 0
        page.press("ArrowRight")
        chosen = text(page, "label")
        page.press("/")
        for letter in "CAR":
            page.press(letter.lower())
        act(page, "Enter")
        assert text(page, "label") == "<b>car</b>"
        act(page, "Enter", then="document.getElementById('name').textContent === 'z.png'")
        history = [one.what for one in read_correction(workspace.corrections, HOSTILE).history]
        assert history == [f"<b>car</b> instead of {chosen}", "accepted"]
        assert "1 images reviewed, 1 of them accepted" in server.end()


@pytest.mark.e2e
def test_twenty_images_are_relabelled_by_keyboard_alone(tmp_path: Path, page: Page):
    names = [f"{number:02}.png" for number in range(20)]
    workspace = review_workspace(tmp_path, dict.fromkeys(names, MASKS))
    with serving(tmp_path) as server:
        show(page, server)
        for name, following in itertools.pairwise([*names, "00.png"]):
            assert text(page, "name") == name
            act(page, "ArrowRight", "1")  # the most doubtful mask
            act(page, "ArrowRight", "3")  # the second
            act(page, "ArrowRight", "Delete")  # the third
            act(page, "z")
            act(page, "0")
            last = "document.getElementById('notice').textContent.includes('Nothing is left')"
            then = f"document.getElementById('name').textContent === '{following}'"
            act(page, "Enter", then=last if name == "19.png" else then)
        assert "20 of 20 accepted" in text(page, "progress")
        said = server.end()
    assert "20 images reviewed, 20 of them accepted" in said
    for correction in read_corrections(workspace.corrections):
        assert correction.accepted
        assert len(correction.history) == 6
        assert len(correction.regions) == 2
        assert {one.origin for one in correction.regions} == {"person"}
        assert all(one.seconds is not None for one in correction.history)


@pytest.mark.e2e
def test_parts_gaps_and_dropped_masks_become_the_pixels_that_are_seen(tmp_path: Path, page: Page):
    bar: tuple[Drawn, ...] = (("1.1", 1, (25, 0, 35, 40), 0.95), ("1.1", 0, (0, 0, 60, 40), 0.9))
    workspace = review_workspace(tmp_path, {"a.png": bar})
    wanted = np.zeros(SIZE_HW, int)
    wanted[:, 25:35], wanted[:, 35:] = 1, 2
    without = np.where(wanted == 1, -1, wanted)
    with serving(tmp_path) as server:
        show(page, server)
        act(page, "ArrowRight", "s")  # the sky's second part, right of the bar
        act(page, "3")
        assert (painted(workspace, "a.png") == wanted).all()
        act(page, "ArrowRight", "ArrowRight", "0")
        assert (painted(workspace, "a.png") == without).all()
        act(page, "g")
        assert (painted(workspace, "a.png") == wanted).all()
        act(page, "z")
        assert (painted(workspace, "a.png") == without).all()
        place = page.run(
            "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
            "(document.getElementById('picture').getBoundingClientRect())"
        )
        page.click(*place)
        page.until("document.getElementById('label').textContent === 'dropped mask: <b>car</b>?'")
        act(page, "2")
        assert (painted(workspace, "a.png") == wanted).all()
        assert left(workspace, "a.png")[0] == ("<b>car</b>", "person")
        server.kill()
        page.press("Delete")
        page.until(RETRIES)
        server.start()
        page.until(SAVED)
        assert (painted(workspace, "a.png") == without).all()


@pytest.mark.e2e
def test_a_server_that_is_killed_between_any_two_clicks_loses_nothing(tmp_path: Path, page: Page):
    workspace = review_workspace(tmp_path, {"a.png": MASKS, "b.png": MASKS})
    with serving(tmp_path) as server:
        show(page, server)
        page.press("ArrowRight")
        wanted = []
        for place, delay in enumerate((None, 0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)):
            key = "132"[place % 3]
            if delay is None:
                server.kill()
                act(page, key, then=RETRIES)
            else:
                page.press(key)
                time.sleep(delay)
                server.kill()
            second = "213"[place % 3]  # while no server is there
            page.press(second)
            wanted += [CLASSES[int(key) - 1], CLASSES[int(second) - 1]]
            server.start()
            page.until(SAVED, every_s=QUICK_S)
            found = read_correction(workspace.corrections, "a.png")
            changes = [part for one in found.history for part in one.what.split("; ")]
            assert [one.split(" instead")[0] for one in changes] == wanted
            assert (wanted[-1], "person") in left(workspace, "a.png")
        server.kill()
        act(page, "Delete", then=RETRIES)
        act(page, "n", then="document.getElementById('notice').textContent.includes('not on the')")
        server.start()
        page.until(SAVED, every_s=QUICK_S)
        assert len(left(workspace, "a.png")) == 2


@pytest.mark.e2e
def test_of_two_tabs_the_second_is_told_and_shows_what_the_first_left(tmp_path: Path, page: Page):
    assert BROWSER is not None
    workspace = review_workspace(tmp_path, {"a.png": MASKS})
    with serving(tmp_path) as server, opened(BROWSER) as other:
        show(page, server)
        show(other, server)
        page.press("ArrowRight")
        page.run("window.dispatchEvent(new Event('focus'))")  # its answer is of before the change
        act(page, "3")
        time.sleep(0.5)
        assert text(page, "label") == "grass"
        assert text(page, "notice") == "Close"  # its button
        before = left(workspace, "a.png")
        other.press("ArrowRight")
        act(other, "Delete", then="document.getElementById('notice').hidden === false")
        assert "anna saved this image meanwhile" in text(other, "notice")
        assert "Not saved: " in text(other, "notice")
        assert left(workspace, "a.png") == before
        act(other, "ArrowRight", "Delete")
        assert len(left(workspace, "a.png")) == len(before) - 1
        page.run("window.dispatchEvent(new Event('focus'))")  # the first tab again
        page.until("document.getElementById('notice').textContent.includes('elsewhere')")


@pytest.mark.e2e
def test_only_seconds_in_which_the_page_is_in_front_count(tmp_path: Path, page: Page):
    workspace = review_workspace(tmp_path, {"a.png": MASKS})

    def front(value: str, event: str) -> None:
        page.run(f"document.hasFocus = () => {value}; window.dispatchEvent(new Event('{event}'))")

    with serving(tmp_path) as server:
        show(page, server)
        time.sleep(1.5)
        act(page, "ArrowRight", "3")
        front("false", "blur")
        time.sleep(2.5)
        front("true", "focus")
        act(page, "1")
        first, second = read_correction(workspace.corrections, "a.png").history
    assert 1.4 < first.seconds < 5
    assert second.seconds < 2


@pytest.mark.e2e
def test_a_queue_of_ten_thousand_images_opens_in_two_seconds(tmp_path: Path, page: Page):
    names = [f"{number // 1000}/{number:05}.png" for number in range(10_000)]
    classes = [f"class {number}" for number in range(255)]
    workspace = review_workspace(tmp_path, dict.fromkeys(names, SMALL), classes, size_hw=(8, 8))
    with serving(tmp_path) as server:
        show(page, server)  # the first image waits for the server's imports
        show(page, server)
        opened_s = page.run("performance.now()") / 1000
        rows = page.run("document.querySelectorAll('#images .row').length")
        page.press("ArrowRight")
        act(page, *"/254", "Enter")
        assert left(workspace, names[0]) == [("class 254", "person")]
        act(page, "Enter", then="document.getElementById('name').textContent === '0/00001.png'")
        page.press("q")  # into the list, where arrows go through images
        for number in (2, 3):
            then = f"document.getElementById('name').textContent === '0/0000{number}.png'"
            act(page, "ArrowDown", then=then)
        act(page, "Enter", then="document.activeElement.id === 'picture'")
        page.run("document.getElementById('images').scrollTop = 36 * 9990")
        page.until("document.getElementById('images').textContent.includes('9/09999.png')")
    assert opened_s < 2, opened_s
    assert 5 < rows < 60
    print(json.dumps({"opened_s": round(opened_s, 2), "rows": rows}))


@pytest.mark.e2e
@pytest.mark.parametrize("size", [TABLET, PHONE], ids=["tablet", "phone"])
def test_a_finger_is_enough_on_a_tablet_and_on_a_phone(
    tmp_path: Path, page: Page, size: tuple[int, int]
):
    workspace = review_workspace(tmp_path, {"a.png": MASKS, "b.png": MASKS})

    def tap(selector: str) -> None:
        box = page.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        assert 0 <= box[0] <= size[0], selector
        assert 0 <= box[1] <= size[1], selector
        for kind, points in (("touchStart", [{"x": box[0], "y": box[1]}]), ("touchEnd", [])):
            page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    with serving(tmp_path) as server:
        page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        show(page, server, size)
        assert page.run("document.documentElement.scrollWidth") <= size[0]
        tap("#picture")
        page.until("!document.getElementById('label').hidden", every_s=QUICK_S)
        tap("#classes button")
        page.until(SAVED, every_s=QUICK_S)
        tap("[data-do=accept]")
        page.until("document.getElementById('name').textContent === 'b.png'", every_s=QUICK_S)
        tap("#menu")
        page.until("document.body.classList.contains('drawer')", every_s=QUICK_S)
        time.sleep(0.3)  # it slides
        tap("#images .row")
        page.until("document.getElementById('name').textContent === 'a.png'", every_s=QUICK_S)
        page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert ("sky", "person") in left(workspace, "a.png")
