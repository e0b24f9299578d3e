"""The server's page in a browser: a photograph and words become masks, legend and files."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.store import encode_image
from fmbseg.types import IGNORE
from scripts.browser import PHONE, WIDE, Page, find_browser, opened
from tests.support.serve_process import Served, served
from tests.support.trained_folder import TRAINED, trained_folder

BROWSER = find_browser()
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no browser on the PATH"),
    pytest.mark.weights, pytest.mark.e2e,
]  # fmt: skip
DROP = """
(() => {
  const bytes = Uint8Array.from(atob('%s'), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], '<b>photo</b>.png', {type: 'image/png'}));
  dispatchEvent(new DragEvent('drop', {dataTransfer: data}));
})()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(model, tmp_path_factory.mktemp("empty")) as found:
        yield found


@pytest.fixture
def page() -> Iterator[Page]:
    assert BROWSER is not None
    with opened(BROWSER) as found:
        yield found


def pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def words(page: Page, text: str) -> None:
    before = int(page.run("document.body.dataset.ready || 0"))
    page.run(f"document.getElementById('classes').value = {json.dumps(text)}")
    page.run("document.querySelector('form').requestSubmit()")
    page.until(f"document.body.dataset.ready > {before}")


def text(page: Page, name: str) -> str:
    return str(page.run(f"document.getElementById('{name}').innerText"))


def test_a_dropped_photograph_and_words_become_masks_a_legend_and_a_file(
    page: Page, server: Served, model: Path
):
    page.open(f"http://127.0.0.1:{server.port}/", WIDE)
    page.run(DROP % base64.b64encode(encode_image(Image.fromarray(pixels()))).decode())
    page.until("document.body.dataset.ready")
    assert "of 3 found" in text(page, "said")
    names = ["<i>sky blue", "road", "cat", "quux"]
    words(page, ", ".join([f"{names[0]}=heaven", *names[1:]]))
    asked = [[names[0], "heaven"], *names[1:]]
    labels = Segmenter.load(model, "cpu").predict(pixels(), asked).labels
    for index, name in enumerate(names):
        assert name in text(page, "legend" if (labels == index).any() else "never")
    assert (labels != IGNORE).all()
    assert page.run("document.querySelectorAll('i, b, img').length") == 0
    corner = "document.getElementById('shown').getBoundingClientRect()"
    place = page.run(f"(({{x, y}}) => [x + 3, y + 3])({corner})")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    page.until("document.getElementById('below').textContent")
    assert text(page, "below").startswith(f"{names[labels[0, 0]]}, confidence ")
    colour = "[...document.getElementById('shown').getContext('2d').getImageData(3, 3, 1, 1).data]"
    painted = page.run(colour)
    index = sorted(np.unique(labels)).index(labels[0, 0])
    page.run(f"document.querySelectorAll('#legend input')[{index}].click()")
    assert page.run(colour)[:3] == pixels()[3, 3].tolist() != painted[:3]
    page.run("void (() => { URL.createObjectURL = (blob) => { blob.text().then((text) => { "
             "window.got = text }); return '#' } })()")  # fmt: skip
    page.run("document.getElementById('coco').click()")
    page.until("window.got")
    areas = sum(one["area"] for one in json.loads(page.run("window.got"))["annotations"])
    assert areas == labels.size
    page.run("document.getElementById('classes').value = 'sky, Sky'")
    page.run("document.querySelector('form').requestSubmit()")
    page.until("document.getElementById('said').textContent.includes('given twice')")


def test_it_fits_a_phone(page: Page, server: Served):
    page.open(f"http://127.0.0.1:{server.port}/", PHONE)
    page.run(DROP % base64.b64encode(encode_image(Image.fromarray(pixels()))).decode())
    page.until("document.body.dataset.ready")
    words(page, "a very long name of a thing that nobody has in a photograph, sky")
    assert page.run("document.documentElement.scrollWidth") <= PHONE[0]
