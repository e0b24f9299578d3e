"""The server's page in a browser: a photograph and words become masks, legend and files."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE
from scripts import make_screenshots
from scripts.browser import PHONE, WIDE, Page, find_browser, opened
from tests.support.running_server import until
from tests.support.serve_process import Served, served
from tests.support.served_page import (
    PASTE,
    READY,
    colour,
    give,
    heat_button,
    labels_of,
    photograph,
    point,
    text,
    words,
)
from tests.support.trained_folder import TRAINED, trained_folder

BROWSER = find_browser()
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no browser on the PATH"),
    pytest.mark.weights, pytest.mark.e2e,
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("empty")) as found:
        yield found


@pytest.fixture
def page(server: Served) -> Iterator[Page]:
    assert BROWSER is not None
    with opened(BROWSER) as found:
        found.open(server.address, WIDE)
        yield found
        assert len(found.requested) > 5
        for address in found.requested:  # whatever a test did: this server and nothing else
            assert address.startswith((server.address, "about:blank", "data:,", "blob:")), address


def test_a_dropped_photograph_and_words_become_masks_and_a_legend(page: Page, model: Path):
    assert page.run("document.getElementById('found').hidden")
    give(page)
    assert "of 3 found in" in text(page, "said")
    names = ["<i>sky blue", "road", "cat", "quux", "boat", "sand", "fish", "house", "tree"]
    words(page, ", ".join([f"{names[0]}=heaven", *names[1:]]))
    labels = labels_of(model, [[names[0], "heaven"], *names[1:]])
    present = np.unique(labels).tolist()
    for index, name in enumerate(names):
        share = 100 * (labels == index).mean()
        said = f"{name}, {'under 1' if share < 1 else int(share + 0.5)} %"
        assert (said if share else name) in text(page, "legend" if share else "never")
    assert 0 < len(present) < len(names), "some word wins nowhere"
    assert page.run("document.querySelectorAll('i, b').length") == 0
    assert point(page, 3, 3).startswith(f"{names[labels[3, 3]]}, confidence ")


def test_a_class_can_be_hidden_and_masks_made_fainter(page: Page, model: Path):
    give(page)
    labels, plain = labels_of(model, list(TRAINED.groups)), photograph()[3, 3].tolist()
    painted = colour(page, 3, 3)
    assert painted != plain
    row = np.unique(labels).tolist().index(labels[3, 3])
    box = f"document.querySelectorAll('#legend input')[{row}]"
    page.run(f"{box}.click()")
    assert colour(page, 3, 3) == plain
    page.run(f"{box}.click()")
    assert colour(page, 3, 3) == painted
    slider = "document.getElementById('opacity')"
    for value, wanted in (("0", plain), ("60", painted)):
        page.run(f"{slider}.value = {value}; {slider}.dispatchEvent(new Event('input'))")
        assert colour(page, 3, 3) == wanted


def test_a_bad_word_is_answered_with_words_and_the_page_goes_on(page: Page):
    give(page)
    page.run("document.getElementById('classes').value = 'sky, Sky'")
    page.run("document.querySelector('form').requestSubmit()")
    page.until("document.getElementById('said').textContent.includes('given twice')")
    words(page, "sky, road")


def test_a_word_s_heat_map_shows_its_cosines_also_where_it_wins_nowhere(page: Page, model: Path):
    give(page)
    words(page, "road, sky, quux=zorb")
    answer = Segmenter.load(model, "cpu").predict(
        photograph(), ["road", "sky", ["quux", "zorb"]], similarities=True
    )
    for index, name in enumerate(["road", "sky", "quux"]):
        cosines = answer.similarities[index]
        masks = colour(page, 3, 3)
        page.run(f"{heat_button(name)}.click()")
        page.until(f"{heat_button(name)}.getAttribute('aria-pressed') === 'true'")
        low, high = re.findall(r"-?\d\.\d\d", text(page, "range"))
        assert float(low) == pytest.approx(cosines.min(), abs=0.01)
        assert float(high) == pytest.approx(cosines.max(), abs=0.01)
        y, x = np.unravel_index(cosines.argmax(), cosines.shape)
        assert point(page, int(x), int(y)).endswith(f"similarity of {name} {high}")
        layer = 0.6 * np.array([253, 231, 37]) + 0.4 * photograph()[y, x]
        assert np.abs(np.array(colour(page, int(x), int(y))) - layer).max() <= 8
        page.run(f"{heat_button(name)}.click()")
        page.until("document.getElementById('scale').hidden")
        assert colour(page, 3, 3) == masks


def test_label_map_and_coco_are_saved_as_files(page: Page, model: Path, tmp_path: Path):
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    give(page)
    words(page, "road, sky")
    labels = labels_of(model, ["road", "sky"])
    for name in ("png", "coco"):
        page.run(f"document.getElementById('{name}').click()")
    until(lambda: {one.suffix for one in tmp_path.iterdir()} == {".png", ".json"}, 20)
    png, coco = (next(tmp_path.glob(f"*{end}")) for end in (".png", ".json"))
    assert "photo" in png.stem
    assert np.array_equal(np.asarray(Image.open(png)), labels)
    painted = np.full(labels.shape, IGNORE)
    for one in json.loads(coco.read_text())["annotations"]:
        painted[decode_rle(one["segmentation"])] = one["category_id"] - 1
        assert 0 < one["score"] <= 1
    assert np.array_equal(painted, labels)


def test_an_example_has_its_masks_in_under_a_second(page: Page):
    page.until("document.querySelectorAll('#examples img').length === 4")
    seconds = []
    for number in (0, 1, 2, 3):
        before = page.run(READY)
        page.run(f"document.querySelectorAll('#examples button')[{number}].click()")
        page.until(f"{READY} > {before}", every_s=0.02)
        seconds.append(float(re.findall(r"in ([\d.]+) s", text(page, "said"))[0]))
        offered = page.run(f"document.querySelectorAll('#examples img')[{number}].alt")
        assert offered == f"Example: {page.run('document.getElementById(`classes`).value')}"
    print(f"seconds from photograph to masks: {seconds}")
    assert min(seconds) < 1


def test_a_pasted_photograph_is_encoded_once_whatever_is_asked_of_it(page: Page, server: Served):
    give(page, PASTE)  # labels and confidence
    before = _encoded(server)
    words(page, "road, sky")
    page.run(f"{heat_button('road')}.click()")
    page.until("!document.getElementById('scale').hidden")
    assert _encoded(server) == before


def _encoded(server: Served) -> str:
    with urllib.request.urlopen(f"{server.address}metrics", timeout=10) as answer:
        return str(re.findall(r"fmbseg_pictures_encoded_total (\d+)", answer.read().decode())[0])


def test_it_fits_a_phone(page: Page, server: Served):
    page.open(server.address, PHONE)
    give(page)
    words(page, "a very long name of a thing that nobody has in a photograph, sky, " + "w" * 150)
    assert page.run("document.documentElement.scrollWidth") <= PHONE[0]


def test_the_pictures_of_the_documents_are_taken_by_the_script(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "sys.argv", ["make_screenshots", "--serve", str(model), "--out", str(tmp_path)]
    )
    assert make_screenshots.main() == 0
    widths = {"serve.png": 1280, "serve_heat.png": 1280, "serve_phone.png": 390}
    for name, width in widths.items():
        with Image.open(tmp_path / "figures" / name) as picture:
            assert picture.width == width
        assert (tmp_path / "figures" / name).stat().st_size < 300_000
