"""Names and settings full of markup, quotes and control characters are text in the report."""

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fmbseg.evaluate.confusions import Confusion
from fmbseg.evaluate.counts import MaskCount, NeverFound
from fmbseg.pictures.drawing import save_png
from fmbseg.report.content import (
    Example,
    FileLink,
    MethodResult,
    ReportContent,
    TrackingHint,
)
from fmbseg.report.corrected import ClassPutRight, CorrectionFacts
from fmbseg.report.page import build_report
from fmbseg.store import Refused
from tests.support.figures import figures
from tests.unit.report.test_report import FULL, picture, row

HOSTILE = (
    "</title></style></script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1) data-x="',
    "'><svg/onload=alert(1)>",
    "\u202etxt.exe\u2066 \u200f\u05d0\u05d1",
    "a\x00b\x1b[31m\r\n{{ 7*7 }}{% raw %}",
    "../../../etc/passwd#?a=1&b=%2e%2e",
    "javascript:alert(1)",
    "--></textarea></select><!-- ]]>",
    "\udcff\ud800",
)


class Structure(HTMLParser):
    """Elements with the names of their attributes; attributes and text beside them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes.append((tag, dict(attrs)))
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


FIGURES = figures(miou=0.1)


def named(name: Callable[[int], str], folder: Path) -> ReportContent:
    """The full page with every free text made by `name`."""
    save_png(folder / "example.png", picture(1, (12, 36)))
    classes = tuple(name(i) for i in range(3))
    example = Example("worst", 1, name(3), FIGURES, folder / "example.png", classes[:2])
    result = MethodResult(
        name(4), name(5), name(6), {"name": name(7), name(8): name(9)}, "abc", FIGURES,
        dict.fromkeys(classes, 0.1), 1, 0.1, paper_column="PV-21",
        confusions=(Confusion(classes[0], classes[1], 0.1, 3),), examples=(example,),
    )  # fmt: skip
    link = FileLink(name(10), f"../../data/{name(11)}/a.json", name(12))
    return replace(
        FULL, title=name(13), class_names=classes, notes=(name(14),), results=(result,),
        facts=replace(
            FULL.facts, profile=name(15), data_set=name(16), models={name(17): name(18)},
            settings={name(19): name(20)},
        ),
        mask_counts=tuple(MaskCount(one, 1, 1, 1, 0) for one in classes),
        never_found=NeverFound(classes[:2], 3, 10),
        gallery=(replace(row(name(21)), files=(link,)),), files=(link,),
        quarantined=(Refused(name(22), name(23)),),
        tracking=TrackingHint("http://127.0.0.1:5000", name(24), name(25)),
        corrections=CorrectionFacts(
            1, 1, 2.0, name(4), 0.1, 0.2,
            (ClassPutRight(classes[0], 3, 0.5, ((classes[1], 0.5),)),), 0.5, 0.1, (name(26),),
        ),
    )  # fmt: skip


def parsed(folder: Path, name: Callable[[int], str]) -> Structure:
    build_report(folder / "index.html", named(name, folder))
    return Structure((folder / "index.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("start", range(len(HOSTILE)))
def test_no_element_or_attribute_comes_from_a_name(tmp_path: Path, start: int) -> None:
    benign = parsed(tmp_path / "a", lambda i: f"name {i}")
    page = parsed(tmp_path / "b", lambda i: f"{HOSTILE[(start + i) % len(HOSTILE)]} {i}")
    assert page.elements == benign.elements
    assert page.scripts == 1
    script = [text for text in page.text if '"use strict"' in text]
    assert script == [text for text in benign.text if '"use strict"' in text]
    assert not any(name.startswith("on") for _, names in page.elements for name in names)


def test_hostile_names_are_shown_as_text_and_turn_nothing_around_them(tmp_path: Path) -> None:
    page = parsed(tmp_path, lambda i: f"{HOSTILE[i % len(HOSTILE)]} {i}")
    text = "".join(page.text)
    assert HOSTILE[0] + " 0" in text
    assert "\\u202etxt.exe\\u2066" in text
    assert "a\\x00b\\x1b[31m\\r\\n{{ 7*7 }}{% raw %}" in text
    assert not set(text) & set("\x00\x1b\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
    for _, attributes in page.attributes:
        assert not set("".join(v or "" for v in attributes.values())) & set("\x00\x1b\u202e")
    lists = [a["data-classes"] for _, a in page.attributes if "data-classes" in a]
    assert all(isinstance(json.loads(one or ""), list) for one in lists)
    inside = [tag for tag, _ in page.attributes if tag == "bdi"]
    assert len(inside) > 30


def test_links_are_percent_encoded_and_stay_what_the_steps_gave(tmp_path: Path) -> None:
    page = parsed(tmp_path, lambda i: f"{HOSTILE[i % len(HOSTILE)]} {i}")
    links = [a["href"] or "" for tag, a in page.attributes if tag == "a"]
    files = [link for link in links if not link.startswith(("#", "http://127.0.0.1:5000"))]
    assert files
    for link in files:
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert link.isascii()
        assert unquote(link).startswith("../../data/")
