"""The page of `fmbseg serve` in a browser, as tests drive it."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.store import encode_image
from scripts.browser import Page

_SENT = """
(() => {
  const bytes = Uint8Array.from(atob('%s'), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], '<b>photo</b>.png', {type: 'image/png'}));
  dispatchEvent(%s);
})()
"""
DROP = "new DragEvent('drop', {dataTransfer: data})"
PASTE = "new ClipboardEvent('paste', {clipboardData: data})"
READY = "Number(document.body.dataset.ready || 0)"


def photograph() -> np.ndarray:
    """96 x 128 px of coarse noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def give(page: Page, how: str = DROP) -> None:
    """Drop or paste the photograph and wait for its masks."""
    before = page.run(READY)
    content = encode_image(Image.fromarray(photograph()))
    page.run(_SENT % (base64.b64encode(content).decode(), how))
    page.until(f"{READY} > {before}")


def words(page: Page, text: str) -> None:
    """Ask for words and wait for their masks."""
    before = page.run(READY)
    page.run(f"document.getElementById('classes').value = {json.dumps(text)}")
    page.run("document.querySelector('form').requestSubmit()")
    page.until(f"{READY} > {before}")


def text(page: Page, name: str) -> str:
    """What stands in an element."""
    return str(page.run(f"document.getElementById('{name}').innerText"))


def point(page: Page, x: int, y: int) -> str:
    """Point at a pixel of the photograph; what is said of it."""
    place = page.run(
        "(() => { const canvas = document.getElementById('shown'); const box = "
        "canvas.getBoundingClientRect(); const unit = box.width / canvas.width; "
        f"return [box.x + ({x} + .5) * unit, box.y + ({y} + .5) * unit] }})()"
    )
    page.run("void (document.getElementById('below').textContent = '')")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    page.until("document.getElementById('below').textContent")
    return text(page, "below")


def colour(page: Page, x: int, y: int) -> list[int]:
    """Red, green and blue of a pixel as it is shown."""
    pen = "document.getElementById('shown').getContext('2d')"
    found: list[int] = page.run(f"[...{pen}.getImageData({x}, {y}, 1, 1).data]")
    return found[:3]


def heat_button(name: str) -> str:
    """The expression of a word's button."""
    return f"document.querySelector('[aria-label={json.dumps('Heat map of ' + name)}]')"


def labels_of(model: Path, classes: list[Any]) -> np.ndarray:
    """What the model answers for the photograph."""
    return Segmenter.load(model, "cpu").predict(photograph(), classes).labels
