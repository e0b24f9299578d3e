"""Pictures inside the report: their colours and their size."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import colourise, save_png
from fmbseg.pictures.layers import HATCH_RGB, INK_RGB, POINT_RGB
from fmbseg.report.content import Example, GalleryRow
from fmbseg.report.page import MAX_PICTURES_BYTES
from tests.support.figures import figures
from tests.unit.report.test_report import CLASSES, FULL, Page, build, labels, masks, picture


def test_painted_colours_are_the_legend_s_pixel_by_pixel(tmp_path: Path) -> None:
    example = np.hstack([picture(1), *[colourise(labels(), palette(3))] * 2])
    save_png(tmp_path / "worst-1.png", example)
    one = Example("worst", 1, "e.png", figures(miou=0.1), tmp_path / "worst-1.png", CLASSES[:2])
    content = replace(FULL, results=(replace(FULL.results[0], examples=(one,)),))
    tags = Page(build(tmp_path, content)).tags
    swatches: dict[str, set[str]] = {}
    for (tag, attributes), (_, rect) in zip(tags, tags[2:], strict=False):
        if tag == "li" and "data-swatch" in attributes:
            swatches.setdefault(str(attributes["data-swatch"]), set()).add(str(rect["fill"]))
    assert {name: len(fills) for name, fills in swatches.items()} == dict.fromkeys(CLASSES, 1)
    legend = {tuple(map(int, re.findall(r"\d+", next(iter(fills))))) for fills in swatches.values()}
    layers = [a["href"] or "" for tag, a in tags if tag == "image" and a.get("class") == "layer"]
    assert len(layers) == 7  # five of the gallery, two of the example
    for place, uri in enumerate(layers):
        data = base64.b64decode(uri.split(",")[1])
        painted = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        opaque = painted[painted[..., 3] > 0]
        colours, counts = np.unique(opaque[:, :3], axis=0, return_counts=True)
        found = {tuple(colour) for colour in colours.tolist()}
        assert found <= legend | {INK_RGB, POINT_RGB, *HATCH_RGB}, place
        assert len(found & legend) == 2, place
        in_legend = [tuple(colour) in legend for colour in colours.tolist()]
        assert counts[in_legend].sum() > 0.5 * counts.sum()


def test_many_large_pictures_keep_the_file_below_five_megabytes(tmp_path: Path) -> None:
    hw = (300, 500)
    large = GalleryRow("", picture(0, hw), masks(hw), masks(hw), masks(hw), labels(hw), labels(hw))
    rows = tuple(replace(large, name=f"{i}.png") for i in range(12))
    html = build(tmp_path, replace(FULL, gallery=rows))
    assert html.count("<image") == 72
    assert len(html) < MAX_PICTURES_BYTES + 250_000 < 5_000_000


def test_what_does_not_fit_at_all_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmbseg.report.page.MAX_PICTURES_BYTES", 50_000)
    rows = tuple(GalleryRow(f"{i}.png", picture(i, (96, 96))) for i in range(4))
    html = build(tmp_path, replace(FULL, gallery=rows))
    shown = html.count("<image")
    assert 0 < shown < 4
    assert f"The first {shown} of 4 images" in html
