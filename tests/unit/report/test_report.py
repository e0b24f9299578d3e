"""The static report and its charts."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fmbseg.evaluate.counts import MaskCount, NeverFound
from fmbseg.methods.table import METHODS
from fmbseg.report.charts import count_chart, iou_chart, line_plot, nice_ticks
from fmbseg.report.content import (
    GalleryRow,
    HistoryPoint,
    MethodResult,
    PresenceScore,
    ReportContent,
    RunFacts,
    SamScore,
    ValidationPoint,
)
from fmbseg.report.corrected import ClassPutRight, CorrectionFacts
from fmbseg.report.page import build_report
from fmbseg.store import Refused
from fmbseg.types import IGNORE, PseudoMask, SamMask
from tests.support.figures import figures
from tests.support.masks import encode_rle

CLASSES = ("sky", "brick wall", "cat")
FACTS = RunFacts(
    "miniature", {"clip": "small"}, 3, "miniature", 1234, 3, 0.25,
    {"train.loss": "prototype_supcon"},
)  # fmt: skip


def result(method: str, miou: float, data_set: str = "miniature", sha: str = "abc") -> MethodResult:
    iou = {"sky": 0.5, "brick wall": None, "cat": 0.125}
    all_of_them = figures(miou=miou, pixel_accuracy=0.75)
    return MethodResult(method, data_set, "test", {"name": "whole"}, sha, all_of_them, iou, 9, 0.5)


def masks(hw: tuple[int, int] = (20, 30)) -> tuple[PseudoMask, ...]:
    """Of the classes 0 and 2, the small one inside the large one."""
    large, small = np.zeros(hw, bool), np.zeros(hw, bool)
    large[2:18, 3:27], small[6:14, 8:20] = True, True
    return tuple(
        PseudoMask("a/b.png", index, CLASSES[index], "1.1", 0.3, SamMask(
            encode_rle(inside), int(inside.sum()), (0, 0, 1, 1), 0.9, 0.9, ((10.0, 9.0),)
        ))
        for index, inside in ((0, large), (2, small))
    )  # fmt: skip


def labels(hw: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Classes 0 and 1, and pixels without a class."""
    found = np.zeros(hw, np.uint8)
    found[:, 15:], found[15:] = 1, IGNORE
    return found


def row(name: str = "a/b.png", seed: int = 0) -> GalleryRow:
    return GalleryRow(name, picture(seed), masks(), masks(), masks(), labels(), labels())


def picture(seed: int, hw: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


FULL = ReportContent(
    title="A run",
    facts=FACTS,
    class_names=CLASSES,
    results=(result("maskclip", 0.3125), result("fmbseg", 0.61)),
    history=tuple(HistoryPoint(i, i // 4, 5 - i / 10, 0.1) for i in range(1, 13)),
    mask_counts=tuple(MaskCount(name, 3, 1500, 3, 4) for name in CLASSES),
    gallery=(row(),),
    quarantined=(Refused("bad.jpg", "truncated file"),),
    notes=("Only a demonstration.",),
    presence=PresenceScore(0.8, 0.7, 0.746, 0.005),
    sam=SamScore(0.71, None, 150),
    corrections=CorrectionFacts(
        40, 10, 1.0, "fmbseg", 0.61, 0.6449,
        (ClassPutRight(CLASSES[0], 1200, 0.25, ((CLASSES[1], 0.2), ("no answer", 0.05))),),
        0.875, 0.02, ("correction of a.jpg: the image was replaced since it was corrected",),
    ),
)  # fmt: skip


class Page(HTMLParser):
    """Tags left open, attributes and text of a page."""

    void = frozenset({"meta", "br", "input", "rect", "line", "polyline"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def build(folder: Path, content: ReportContent) -> str:
    build_report(folder / "new" / "index.html", content)
    html = (folder / "new" / "index.html").read_text()
    assert Page(html).open == []
    return html


def test_the_page_shows_every_method_class_and_figure(tmp_path: Path) -> None:
    html = build(tmp_path, FULL)
    wanted = [*CLASSES, "maskclip", "fmbseg", "0.312", "0.610", "0.125", "abc", "1,500",
              "bad.jpg", "truncated file", "Only a demonstration.", "0.746", "0.710",
              "a/b.png", "prototype_supcon", "1,234"]  # fmt: skip
    assert [text for text in wanted if text not in html] == []
    said = [METHODS[result.method].summary for result in FULL.results]
    assert [text for text in said if text not in unescape(html)] == []


def test_corrections_are_told_with_before_and_now_and_what_was_wrong(tmp_path: Path) -> None:
    page = build(tmp_path, FULL)
    assert "People put 50 images right" in page
    for words in ("0.610", "0.645", "87.5% of the pixels", "2.0% of all pixels", "20.0%", "0.250",
                  "today&#39;s 10 held-out images", "a.jpg: the image was replaced"):  # fmt: skip
        assert words in page, words
    assert FULL.corrections is not None
    first = replace(FULL.corrections, before=None, after=None, held_out=0)
    alone = build(tmp_path, replace(FULL, corrections=first))
    assert "the last model without corrections" not in alone
    assert 'id="corrections"' not in build(tmp_path, replace(FULL, corrections=None))


def test_the_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    html = build(tmp_path, FULL)
    assert not re.search(r"https?://|url\(|@import|<link|<iframe|fetch\(|XMLHttp", html)
    assert html.count("<script>") == html.count("<script") == 1
    for tag, attributes in Page(html).tags:
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:image/", "#")), (tag, value[:60])


def test_only_the_page_s_own_script_may_run(tmp_path: Path) -> None:
    html = build(tmp_path, FULL)
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(
        attributes["content"]
        for tag, attributes in Page(html).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert policy.startswith("default-src 'none'")


def test_every_picture_has_a_text_and_every_link_a_target(tmp_path: Path) -> None:
    tags = Page(build(tmp_path, FULL)).tags
    drawn = [attributes for tag, attributes in tags if tag == "svg" and "role" in attributes]
    pictures = [one for one in drawn if "over training steps" not in (one["aria-label"] or "")]
    assert len(pictures) == 6
    assert all((one["aria-label"] or "").startswith("a/b.png: ") for one in pictures)
    targets = {attributes.get("id") for _, attributes in tags}
    links = {(attributes["href"] or "")[1:] for tag, attributes in tags if tag in ("a", "use")}
    assert links <= targets


def test_never_found_classes_stand_at_the_top_with_the_next_step(tmp_path: Path) -> None:
    html = build(tmp_path, replace(FULL, never_found=NeverFound(("cat",), 3, 60)))
    top = html.split("<main>")[0]
    assert "1 of 3 classes was never found in 60 images:" in top
    assert "<bdi>cat</bdi>" in top.split("Classes never found")[1]
    assert "Try synonyms" in top
    assert "never found" not in build(tmp_path, replace(FULL, never_found=NeverFound((), 3, 60)))


def test_tables_sort_pictures_enlarge_and_a_class_filters_by_keyboard_too(tmp_path: Path) -> None:
    tags = Page(build(tmp_path, FULL)).tags
    headings = [a for tag, a in tags if tag == "th" and a.get("scope") == "col"]
    buttons = [a for tag, a in tags if tag == "button"]
    assert headings
    assert all(one["aria-sort"] == "none" for one in headings)
    assert len([one for one in buttons if one.get("class") == "sort"]) == len(headings)
    assert len([one for one in buttons if one.get("class") == "shot"]) == 6
    assert all(one["type"] == "button" for one in buttons)
    assert [a["aria-labelledby"] for tag, a in tags if tag == "dialog"] == ["enlarged-title"]
    listed = [json.loads(a["data-classes"] or "") for _, a in tags if "data-classes" in a]
    assert ["sky"] in listed
    assert ["sky", "brick wall", "cat"] in listed, "the gallery's image"
    assert ("label", {"for": "filter"}) in tags
    open_at_first = [a for tag, a in tags if tag == "details" and a.get("class") == "unit"]
    assert open_at_first == [{"class": "unit"}], "the settings are folded"


def test_without_labels_the_page_says_so(tmp_path: Path) -> None:
    html = build(tmp_path, replace(FULL, results=(), presence=None, sam=None))
    assert "nothing could be scored" in html
    assert "IoU of each class" not in html
    assert 'href="#classes"' not in html


def test_a_run_without_anything_else_still_has_a_page(tmp_path: Path) -> None:
    html = build(tmp_path, ReportContent("Nothing", FACTS))
    assert "Every image could be read" in html
    assert "<image" not in html


def test_missing_truth_leaves_its_column_out_and_a_single_gap_is_marked(tmp_path: Path) -> None:
    bare = GalleryRow("x", picture(0), masks(), prediction=labels())
    other = GalleryRow("y", picture(0), prediction=labels())
    html = build(tmp_path, replace(FULL, gallery=(bare, other)))
    assert html.count("<figcaption>image</figcaption>") == 2
    assert "<figcaption>truth</figcaption>" not in html
    assert html.count('<div class="nothing">none</div>') == 1


def test_the_best_of_a_column_is_bold_and_protocols_never_share_one(tmp_path: Path) -> None:
    results = (*FULL.results, result("maskclip", 0.9, sha="other"), result("stage1", math.nan))
    html = build(tmp_path, replace(FULL, results=results))
    assert re.findall(r'<td class="number best">([^<]*)<', html) == ["0.900", "0.610"]
    assert html.count("<strong><bdi>miniature test</bdi></strong>") == 2
    assert "nan" not in html


def test_same_content_same_bytes(tmp_path: Path) -> None:
    assert build(tmp_path / "a", FULL) == build(tmp_path / "b", FULL)


def test_iou_bars_have_absolute_length_and_best_classes_come_first() -> None:
    chart = iou_chart("x", {"a": {"sky": 0.2, "cat": None}, "b": {"sky": 0.3, "fish": math.nan,
                                                                 "sea": 0.9}})  # fmt: skip
    assert list(chart.rows) == ["sea", "sky", "cat", "fish"]
    assert [bar.percent for bar in chart.rows["sky"]] == pytest.approx([20, 30])
    assert [bar.text for bar in chart.rows["sea"]] == ["none", "0.900"]


def test_count_bars_share_the_scale_of_the_largest() -> None:
    chart = count_chart("x", ("a", "b"), {"sky": (5, 10), "cat": (0, 1)})
    assert [[bar.percent for bar in bars] for bars in chart.rows.values()] == [[50, 100], [0, 10]]
    assert count_chart("x", ("a",), {"sky": (0,)}).rows["sky"][0].percent == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3.1, 4.9, [3, 3.5, 4, 4.5, 5]),
     (1, 2999, [0, 1000, 2000, 3000])],
)  # fmt: skip
def test_ticks_are_round_and_enclose_the_range(
    low: float, high: float, expected: list[float]
) -> None:
    assert nice_ticks(low, high, 5) == pytest.approx(expected)


def test_the_validation_curve_stands_below_the_loss_on_the_same_steps(tmp_path: Path) -> None:
    points = tuple(ValidationPoint(4 * i, i, 0.1 * i, 20) for i in range(1, 4))
    html = build(tmp_path, replace(FULL, validation=points))
    assert html.index("Loss by step") < html.index("mIoU of 20 validation images by step")
    assert 'aria-label="Validation mIoU over training steps' in html
    plot = line_plot([4, 8, 12], [1, 2, 3], [0.1, 0.2, 0.3], x_range=(1, 12))
    assert plot is not None
    assert plot.fine.split()[0].startswith("272.7,"), "step 4 of 1 to 12"
    assert "validation images by step" not in build(tmp_path, FULL)


@pytest.mark.parametrize("value", [0.0, 2.0, -3.0, 1e-9])
def test_a_constant_has_ticks_around_it(value: float) -> None:
    ticks = nice_ticks(value, value, 5)
    assert ticks[0] <= value <= ticks[-1]
    assert ticks[0] < ticks[-1]


def test_the_curve_goes_through_its_points_and_skips_what_is_not_finite() -> None:
    plot = line_plot([1, 2, 3], [0, 0, 0], [1.0, math.nan, 0.0])
    assert plot is not None
    assert plot.fine == "0.0,0.0 1000.0,1000.0"
    assert plot.coarse == ""
    assert line_plot([1], [0], [math.inf]) is None
    assert line_plot([7], [0], [2.0]) is not None


def test_long_histories_are_thinned_and_keep_their_epochs() -> None:
    steps = list(range(1, 5001))
    plot = line_plot(steps, [s // 500 for s in steps], [1 / s for s in steps])
    assert plot is not None
    assert plot.fine_name == "mean of 13 steps"
    assert len(plot.fine.split()) <= 400
    assert len(plot.coarse.split()) == 11
