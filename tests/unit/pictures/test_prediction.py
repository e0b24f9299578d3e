"""What a prediction shows in a notebook."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.pictures.colours import palette
from fmbseg.pictures.prediction import SHOWN_PX, Prediction
from fmbseg.segmenter import Segmenter
from fmbseg.types import IGNORE, LabelMap
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head, image, truth


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(found: Prediction) -> tuple[Elements, np.ndarray]:
    """The HTML, and the picture in it."""
    page = Elements(found._repr_html_())
    (picture,) = [attributes for tag, attributes in page.tags if tag == "img"]
    data = (picture["src"] or "").removeprefix("data:image/png;base64,")
    with PilImage.open(io.BytesIO(base64.b64decode(data))) as opened:
        return page, np.asarray(opened.convert("RGB"))


def made(names: tuple[str, ...] = ("a", "b"), size_hw: tuple[int, int] = (30, 40)) -> Prediction:
    labels = np.zeros(size_hw, np.uint8)
    labels[:, size_hw[1] // 2 :] = len(names) - 1
    labels[: size_hw[0] // 2, : size_hw[1] // 4] = IGNORE
    picture = np.full((*size_hw, 3), 77, np.uint8)
    return Prediction.of(LabelMap(labels, names), picture)


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(AlignedSegmentation(ColourVision(), identity_head(), ColourClip()), NAMES)


def test_a_segmenter_answers_with_a_prediction_that_names_its_classes(segmenter: Segmenter):
    found = segmenter.predict(image(), NAMES)
    assert isinstance(found, LabelMap)
    counts = {NAMES[i]: (truth() == i).mean() for i in range(3)}
    assert found.shares() == pytest.approx(counts)
    assert repr(found).startswith("Prediction of 16 x 24 px: red 50%")
    page, picture = shown(found)
    assert all(name in page.text for name in NAMES)
    assert "red 50%" in str(dict(page.tags[1][1])["alt"]), "in words, for who sees no picture"
    assert picture.shape[:2] == (24 * 14, 16 * 14), "small pictures are enlarged"
    assert repr(segmenter) == (
        "Segmenter (trained on 3 classes: red, green, blue; on cpu, answers for any class names)"
    )


def test_the_picture_has_the_classes_colours_and_leaves_none_uncoloured():
    page, picture = shown(made())
    height, width = picture.shape[:2]
    assert (picture[: height // 2 - 2, : width // 4 - 2] == 77).all()
    colours = palette(2)
    assert (picture[:, width // 2 + 3 :] == colours[1]).all(-1).any()
    swatches = re.findall(r"background:(#\w+)", made()._repr_html_())
    assert swatches == [f"#{bytes(c).hex()}" for c in (colours[1], colours[0])] + ["#ffffff"]
    assert page.text == "b 50%a 38%none 12%"


def test_class_names_with_html_are_shown_as_text():
    names = ("<script>alert(1)</script>", 'a"><img src=x onerror=y>', "שמיים\u202e")
    found = made(names)
    page, _ = shown(found)
    assert {tag for tag, _ in page.tags} == {"figure", "img", "figcaption", "span", "bdi"}
    assert "<script>alert(1)</script>" in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "\u202e" not in page.text + repr(found)


@pytest.mark.parametrize("size_hw", [(3000, 4000), (1, 2500), (5000, 2), (641, 640), (320, 1)])
def test_a_large_picture_is_shown_small(size_hw: tuple[int, int]):
    found = made(size_hw=size_hw)
    assert found.picture is not None
    assert max(found.picture.shape) <= SHOWN_PX
    _, picture = shown(found)
    assert max(picture.shape) <= SHOWN_PX
    with PilImage.open(io.BytesIO(found._repr_png_())) as opened:
        assert max(opened.size) <= SHOWN_PX + 100, "with its legend"
    assert found.labels.shape == size_hw


def test_many_classes_are_counted_not_listed():
    labels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    found = Prediction(labels, tuple(f"class {i}" for i in range(100)))
    page, _ = shown(found)
    assert page.text.count("class") == 24
    assert page.text.endswith("and 76 more")


def test_without_its_image_a_prediction_shows_colours_and_copies_keep_the_picture():
    found = made()
    assert replace(found, similarities=None).picture is found.picture
    _, picture = shown(replace(found, picture=None))
    assert (picture == palette(2)[1]).all(-1).any()
