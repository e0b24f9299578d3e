"""Measured figures beside the paper's."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.evaluate.confusions import Confusion
from fmbseg.report.comparison import compare
from fmbseg.report.content import Example, MethodResult, ReportContent, RunFacts
from fmbseg.report.page import MAX_EXAMPLES_BYTES, build_report
from fmbseg.report.quoted import COLUMNS, PAPER, PROTOCOL, QUOTED, SOURCE
from tests.support.figures import figures

FACTS = RunFacts("paper", {"clip": "x"}, 0, "folder", 9, 2)
OTHERS = ["GroupViT", "MaskCLIP", "ReCo", "TCL", "CLIP-S4", "SCLIP", "CLIP-DIY", "CaR", "SAM-CLIP"]


def result(data_set: str, method: str, miou: float, sha: str = "abc") -> MethodResult:
    entry = CATALOGUE.get(data_set)
    return MethodResult(
        method, data_set, "val", {"name": "tcl"}, sha, figures(miou=miou),
        {"sky": 0.5, "cat": None}, 1449, 0.5, paper_column=None if entry is None else entry.column,
    )  # fmt: skip


FIGURES = figures(miou=0.25)


def page_of(folder: Path, *results: MethodResult) -> str:
    build_report(folder / "index.html", ReportContent("A run", FACTS, results=results))
    return (folder / "index.html").read_text()


def test_every_column_of_the_paper_has_its_figure_and_a_data_set():
    assert tuple(PAPER.figures) == COLUMNS
    assert {entry.column for entry in CATALOGUE.values() if entry.column} == {*COLUMNS}
    assert [row.method for row in QUOTED] == OTHERS
    for row in (PAPER, *QUOTED):
        assert row.figures.keys() <= {*COLUMNS}
        assert row.figures_of.keys() <= row.figures.keys() & {"PC-59", "CO-80"}
        assert all(0 < figure < 100 for figure in row.figures.values())


def test_the_gap_is_measured_less_paper_in_points():
    found = compare([result("voc21", "maskclip", 0.31), result("voc21", "fmbseg", 0.65)])
    assert found is not None
    (column,) = found.columns
    assert (column.name, column.paper, column.measured) == ("PV-21", 67.73, 65.0)
    assert column.gap == pytest.approx(-2.73)
    assert (column.of.protocol_hash, column.of.images, column.seconds_per_image) == (
        "abc",
        1449,
        0.5,
    )
    rows = [(row.method, row.kind, row.cells[0].text) for row in found.rows]
    assert rows[:4] == [
        ("FMbSeg", "paper", "67.73"), ("fmbseg", "measured", "65.00"),
        ("measured − paper", "gap", "−2.73"), ("maskclip", "measured", "31.00"),
    ]  # fmt: skip
    assert rows[4] == ("GroupViT", "quoted", "50.4")
    assert [row.method for row in found.rows if row.kind == "quoted"] == OTHERS


def test_columns_stand_in_the_papers_order_and_both_readings_of_city_beside_each_other():
    sets = ["ade150", "miniature", "cityscapes30", "context60", "cityscapes19", "voc20"]
    found = compare([result(name, "fmbseg", 0.2) for name in sets])
    assert found is not None
    assert [(c.name, c.of.data_set) for c in found.columns] == [
        ("PV-20", "voc20"), ("City", "cityscapes30"), ("City", "cityscapes19"), ("ADE", "ade150"),
    ]  # fmt: skip
    assert all(len(row.cells) == 4 for row in found.rows)


def test_unlike_protocols_are_columns_of_their_own():
    found = compare([result("voc20", "fmbseg", 0.2), result("voc20", "fmbseg", 0.3, "other")])
    assert found is not None
    assert [(c.of.protocol_hash, c.measured) for c in found.columns] == [("abc", 20), ("other", 30)]


def test_figures_of_other_data_sets_are_marked():
    found = compare([result(name, "fmbseg", 0.2) for name in ("context59", "coco_things80")])
    assert found is not None
    marked = {
        row.method: tuple((cell.text, cell.figure_of) for cell in row.cells) for row in found.rows
    }
    assert marked["GroupViT"] == (("18.7", "PC-60"), ("27.5", "COCO-Object"))
    assert marked["TCL"] == (("33.9", ""), ("31.6", "COCO-Object"))
    assert marked["SCLIP"] == (("30.4", "PC-60"), ("–", ""))
    assert marked["FMbSeg"] == (("42.72", ""), ("57.63", ""))


def test_without_our_method_or_a_finite_figure_there_is_no_gap():
    found = compare([result("voc20", "maskclip", 0.2)])
    assert found is not None
    assert found.columns[0].measured is found.columns[0].gap is None
    assert "gap" not in [row.kind for row in found.rows]
    found = compare([result("voc20", "fmbseg", math.nan)])
    assert found is not None
    assert [row.cells[0].text for row in found.rows[1:3]] == ["–", "–"]


def test_the_page_shows_the_paper_only_beside_a_column_of_its_own(tmp_path: Path):
    for name in ("miniature", "context60", "folder"):
        page = page_of(tmp_path, result(name, "fmbseg", 0.2))
        assert 'id="paper"' not in page
        assert "GroupViT" not in page
    page = page_of(tmp_path, *(result(name, "fmbseg", 0.2) for name in ("miniature", "ade150")))
    text = " ".join(re.sub("<[^>]+>", " ", page).split()).replace("&#39;", "'")
    assert "ADE ade150 val 16.25 20.00 +3.75 tcl abc 1,449 0.500" in text
    assert "SAM-CLIP quoted –" in text
    assert "GroupViT quoted 9.2" in text
    assert SOURCE in text
    assert PROTOCOL in text


def test_the_page_shows_confusions_times_and_both_kinds_of_examples(tmp_path: Path):
    examples = []
    for side, colour in (("worst", "red"), ("best", "blue")):
        Image.new("RGB", (30, 10), colour).save(tmp_path / f"{side}.png")
        examples.append(Example(side, 1, f"{side}.jpg", FIGURES, tmp_path / f"{side}.png"))
    one = replace(
        result("miniature", "fmbseg", 0.2), examples=tuple(examples[::-1]),
        confusions=(Confusion("cat", "sky", 0.375, 4096),),
    )  # fmt: skip
    page = page_of(tmp_path, one)
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "fmbseg mIoU 0.200, pixel accuracy 0.500" in text
    assert "0.500 s / image" in text
    assert "cat sky 0.375 4,096" in text
    worst, best = text.index("worst.jpg mIoU 0.250"), text.index("best.jpg mIoU 0.250")
    assert worst < best
    assert page.count("data:image/jpeg") == 2


def test_twenty_one_evaluations_of_noise_stay_within_the_bytes_for_examples(tmp_path: Path):
    noise = Image.effect_noise((1500, 500), 90).convert("RGB")
    noise.save(tmp_path / "noise.png")
    examples = tuple(
        Example(side, rank, f"{side}-{rank}", FIGURES, tmp_path / "noise.png")
        for side in ("worst", "best")
        for rank in range(1, 3)
    )
    sets = [name for name, entry in CATALOGUE.items() if entry.column and name != "cityscapes30"]
    results = [
        replace(result(name, method, 0.2), examples=examples)
        for name in sets
        for method in ("maskclip", "stage1", "fmbseg")
    ]
    page = page_of(tmp_path, *results)
    assert len(results) == 21
    assert sum(map(len, re.findall('data:image[^"]*', page))) <= MAX_EXAMPLES_BYTES
    for side in ("worst", "best"):
        assert len(re.findall(rf"<figcaption><code><bdi>{side}-1</bdi></code>", page)) == 21
