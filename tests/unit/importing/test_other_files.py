"""What tools write beside masks is read or refused; what is made to do harm does none."""

import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fmbseg.importing.edited import EditError
from fmbseg.importing.label_studio import brush_mask
from tests.support.edited_exports import Exported, exported, png, unpacked_brush
from tests.support.export_images import CLASSES, box, decoded, hard_images, pixels

PLAIN = "plain.png"
ROAD = CLASSES[0]
XML = (
    '<annotations><version>1.1</version><image id="0" name="{name}" width="37" height="24">{}'
    "</image></annotations>"
)


def drawn(one: Exported) -> list[np.ndarray]:
    """Masks of plain.png that were imported, the lowest first."""
    one.take()
    return [decoded(region.rle) for region in one.saved(PLAIN).regions][::-1]


def refusal(one: Exported) -> str:
    plan = one.plan()
    assert not plan.corrections
    (words,) = plan.refused.values()
    return words


def cvat(one: Exported, inside: str, head: str = "") -> None:
    one.back.parent.joinpath("edited.zip").unlink(missing_ok=True)
    with zipfile.ZipFile(one.back, "w") as archive:
        archive.writestr("annotations.xml", head + XML.format(inside, name=PLAIN))


def test_cvats_shapes_are_filled_by_their_order_and_turned_clockwise(tmp_path):
    one = exported("cvat-images", tmp_path)
    about = f'label="{ROAD}" z_order'
    cvat(
        one,
        f'<ellipse {about}="2" cx="18.5" cy="12" rx="9" ry="6"/>'
        f'<box {about}="1" xtl="3" ytl="2" xbr="13" ybr="8"><attribute name="a">b</attribute></box>'
        f'<polygon {about}="0" points="20.0,3.0;30,3;30,13;20,13"/>'
        f'<box {about}="3" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90.0"/><tag label="x"/>',
    )
    polygon, rectangle, ellipse, turned = drawn(one)
    assert np.array_equal(polygon, box(3, 20, 10, 10))
    assert np.array_equal(rectangle, box(2, 3, 6, 10))
    assert np.array_equal(turned, box(7, 13, 10, 4))
    rows, columns = np.mgrid[:24, :37] + 0.5
    away = ((columns - 18.5) / 9) ** 2 + ((rows - 12) / 6) ** 2
    assert ellipse[away < 0.85].all()
    assert not ellipse[away > 1.15].any()


@pytest.mark.parametrize(
    ("inside", "words"),
    [(text.replace("<mask", '<mask label="road" left="0" top="0"'), words) for text, words in [
        ('<polyline label="road" points="1,1;2,2;3,3"/>', "found a polyline; wanted masks"),
        ('<polygon points="1,1;2,2;3,3"/>', "found a polygon without a label"),
        ('<polygon label="road" points="1,1;2,2;3"/>', "a shape without corners"),
        ('<polygon label="road" points="1,1;2,2;nan,3"/>', "a shape without corners"),
        ('<polygon label="road" points="1,1;2,2;99999999,3"/>', "far outside"),
        ('<box label="road" xtl="1" ytl="1" xbr="2"/>', "a shape without corners"),
        ('<box label="road" xtl="1" ytl="1" xbr="2" ybr="2" rotation="x"/>', "wanted degrees"),
        ('<mask rle="0,5" width="2" height="2"/>', "do not fill a box"),
        ('<mask rle="9,-5" width="2" height="2"/>', "do not fill"),
        (f'<mask rle="0,{10**30}" width="2" height="2"/>', "do not fill"),
        ('<mask rle="0,x" width="2" height="2"/>', "no list of numbers"),
        ('<mask rle="0,1" width="1"/>', "found height=None"),
        ('<mask rle="0,9000000000" width="90000" height="100000"/>',
         "found a mask of 90000 x 100000 px in an image of 37 x 24 px"),
    ]],
)  # fmt: skip
def test_elements_of_cvat_that_are_no_masks_refuse_their_image(tmp_path, inside, words):
    one = exported("cvat-images", tmp_path)
    cvat(one, inside)
    assert words in refusal(one)


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS + XML.format("&c;", name=PLAIN), "found a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">' + XML.format("", name=PLAIN), "document type"),
        (XML.format("&c;", name=PLAIN), "no whole XML file"),
        (XML.format("", name=PLAIN)[:-9], "no whole XML file"),
        ("", "no whole XML file"),
        ("<html></html>", "found <html>; wanted a file of CVAT"),
        ("<annotation><object/></annotation>", "found <annotation>"),
        ("<annotations><track id='0'/></annotations>", "a track of a video"),
        ("<annotations><image/></annotations>", "wanted a file of CVAT"),
        ('{"shapes": []}', "no whole XML file"),
    ],
)  # fmt: skip
def test_xml_that_is_foreign_broken_or_an_attack_is_one_error(tmp_path, content, words):
    one = exported("cvat-images", tmp_path)
    with zipfile.ZipFile(one.back, "w") as archive:
        archive.writestr("annotations.xml", content)
    with pytest.raises(EditError, match=words):
        one.take()


@pytest.mark.parametrize("kind", ["cvat-images", "cvat-masks", "label-studio", "coco", "png"])
def test_archives_and_files_that_are_damaged_or_of_another_tool_are_one_error(tmp_path, kind):
    one = exported(kind, tmp_path)
    one.edit({PLAIN: []})
    good = one.back.read_bytes() if one.back.is_file() else b""
    other = tmp_path / "other"
    contents = [
        good[: len(good) // 2],
        b"",
        b"PK\3\4" + b"\0" * 99,
        b"\x89PNG",
        b"[{}]",
        b'{"a": 1}',
    ]
    for content in contents:
        other.write_bytes(content)
        with pytest.raises(EditError, match=str(other)):
            one.plan(other)
    assert one.saved(PLAIN) is None


def test_a_damaged_entry_of_an_archive_is_one_error(tmp_path):
    one = exported("cvat-images", tmp_path)
    one.edit({PLAIN: []})
    data = bytearray(one.back.read_bytes())
    with zipfile.ZipFile(one.back) as archive:
        first = archive.infolist()[0]
    at = first.header_offset + 60 + len(first.filename)
    data[at : at + 20] = bytes(20)
    one.back.write_bytes(data)
    with pytest.raises(EditError, match="damaged, or encrypted"):
        one.plan()


def test_a_bomb_in_an_archive_is_refused_by_its_size(tmp_path, monkeypatch):
    from fmbseg.importing import files

    one = exported("cvat-masks", tmp_path)
    one.edit({})
    monkeypatch.setattr(files, "MAX_BYTES", 40)
    with pytest.raises(EditError, match="more than 40 bytes unpacked"):
        one.plan()


def test_masks_of_another_size_and_colours_without_a_name_refuse_their_image(tmp_path):
    for kind, name in (("cvat-masks", "SegmentationClass/plain.png"), ("png", "plain.png")):
        for picture, words in (
            (np.zeros((37, 24, 3), np.uint8), "found a mask of 24 x 37 px; wanted 37 x 24 px"),
            (np.zeros((900, 900, 3), np.uint8), "more than the limit"),
            (np.full((24, 37, 3), 9, np.uint8), {"cvat-masks": "colour 090909", "png": "mode RGB"}),
        ):
            one = exported(kind, tmp_path / f"{kind}{picture.shape[0]}")
            path = one.out.parent / "edited.zip"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(name, png(picture))
                archive.writestr("labelmap.txt", "background:0,0,0::\n")
            plan = one.plan(path)
            (found,) = plan.refused.values()
            assert (words if isinstance(words, str) else words[kind]) in found


def test_label_pngs_may_be_of_16_bits_and_hold_classes_and_none_alone(tmp_path):
    one = exported("png", tmp_path)
    path = one.out / "labels/plain.png"
    values = pixels(path).astype(np.uint16)
    path.write_bytes(png(values))
    assert one.plan().same == 7
    for number in (4, 254, 65535):
        values[0, 0] = number
        path.write_bytes(png(values))
        assert f"found the number {number}; wanted 0 to 3, or 255 for none" in refusal(one)


def task(one: Exported, *results: object, **more: object) -> None:
    content = {
        "data": {"image": "/data/upload/1/%70lain.png"},
        "annotations": [{"result": results}],
    }
    one.back.write_text(json.dumps([content | more]))


def result(kind: str, **value: object) -> dict[str, object]:
    return {"type": kind, "original_width": 37, "original_height": 24,
            "value": {kind: [ROAD], **value}}  # fmt: skip


def test_label_studios_shapes_are_percent_and_turned_about_their_corner(tmp_path):
    one = exported("label-studio", tmp_path)
    x, y = 100 / 37, 100 / 24
    task(
        one,
        result("polygonlabels", points=[[3 * x, 2 * y], [13 * x, 2 * y], [13 * x, 8 * y],
                                        [3 * x, 8 * y]]),
        result("rectanglelabels", x=20 * x, y=4 * y, width=6 * x, height=3 * y, rotation=90),
        result("ellipselabels", x=18 * x, y=12 * y, radiusX=6 * x, radiusY=6 * y, rotation=0),
        {"type": "choices", "value": {"choices": ["good"]}},
        result("brushlabels", format="rle", rle=unpacked_brush(box(0, 0, 3, 3))),
    )  # fmt: skip
    polygon, rectangle, ellipse, brush = drawn(one)
    assert np.array_equal(polygon, box(2, 3, 6, 10))
    assert np.array_equal(rectangle, box(4, 17, 6, 3))
    rows, columns = np.mgrid[:24, :37] + 0.5
    away = np.hypot(columns - 18, rows - 12)
    assert ellipse[away < 5.4].all()
    assert not ellipse[away > 6.6].any()
    assert np.array_equal(brush, box(0, 0, 3, 3))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (result("keypointlabels", x=1, y=1), "found a result of type keypointlabels"),
        (result("polygonlabels", points=[[1, 1], [2, 2]]), "wanted 3 or more"),
        (result("rectanglelabels", x="?"), "a shape without numbers"),
        (result("brushlabels", rle="?"), "no list of bytes"),
        (result("brushlabels", rle=[300]), "no list of bytes"),
        (result("brushlabels", rle=[0, 0, 1]), "cut off"),
        (result("brushlabels", rle=[255] * 9), "of 4294967295 values; wanted 3552"),
        (result("brushlabels", rle=[], brushlabels=[]), "with the labels []; wanted one"),
        (result("brushlabels") | {"original_width": 24}, "a mask of height and width (24, 24)"),
    ],
)  # fmt: skip
def test_results_of_label_studio_that_are_no_masks_refuse_their_image(tmp_path, given, words):
    one = exported("label-studio", tmp_path)
    task(one, given)
    assert words in refusal(one)


def test_skipped_tasks_and_predictions_are_nobodys_work(tmp_path):
    one = exported("label-studio", tmp_path)
    task(one, annotations=[{"result": [], "was_cancelled": True}])
    assert one.plan(accept="all").read == 0
    task(one, annotations=[], predictions=[{"result": []}])
    assert one.plan(accept="all").read == 0
    task(one, annotations=None)
    with pytest.raises(EditError, match="JSON-MIN"):
        one.plan()


def test_any_value_but_0_of_a_brush_mask_is_inside():
    bits = f"{8:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for value in (0, 1):
        bits += "1" + "00" + f"{4 - 1:03b}" + f"{value:08b}"
    bits += "0" * (-len(bits) % 8)
    packed = bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    assert brush_mask(packed, (1, 2)).tolist() == [[False, True]]


def coco(one: Exported, segmentation: object, **more: object) -> None:
    content = {
        "images": [{"id": 1, "file_name": "images/train/plain.png", "width": 37, "height": 24}],
        "categories": [{"id": 4, "name": ROAD}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": segmentation}],
    }
    one.back.write_text(json.dumps(content | more))


def test_polygons_of_coco_are_filled_together(tmp_path):
    one = exported("coco", tmp_path)
    coco(one, [[3, 2, 13, 2, 13, 8, 3, 8], [20, 2, 25, 2, 25, 8, 20, 8]])
    (found,) = drawn(one)
    assert np.array_equal(found, box(2, 3, 6, 10) | box(2, 20, 6, 5))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([], "without a mask"), ("?", "without a mask"), ([[1, 2, 3]], "without corners"),
        ([[1, 2, 3, 4]], "wanted 3 or more"), ([["a", 2] * 3], "without corners"),
        ({"size": [37, 24], "counts": "?"}, "found a mask of size [37, 24]"),
        ({"size": [24, 37], "counts": "?"}, "do not fill an image of 37 x 24 px"),
        ({"size": [24, 37], "counts": ""}, "do not fill an image"),
        ({"size": [24, 37], "counts": "P" * 99}, "do not fill an image"),
        ({"size": [24, 37], "counts": "é"}, "do not fill an image"),
        ({"size": [24, 37], "counts": [900, -12]}, "do not fill a box"),
        ({"size": [24, 37], "counts": [10**18]}, "do not fill a box"),
        ({"size": [24, 37], "counts": None}, "without run lengths"),
    ],
)  # fmt: skip
def test_segmentations_that_are_no_masks_refuse_their_image(tmp_path, segmentation, words):
    one = exported("coco", tmp_path)
    coco(one, segmentation)
    assert words in refusal(one)


@pytest.mark.parametrize(
    "more",
    [{"categories": []}, {"images": []}, {"images": [{"id": 1}]}, {"annotations": [{"id": 1}]},
     {"annotations": [{"image_id": 9, "category_id": 4, "segmentation": []}]}],
)  # fmt: skip
def test_a_coco_file_whose_parts_do_not_fit_is_one_error(tmp_path, more):
    one = exported("coco", tmp_path)
    coco(one, [], **more)
    with pytest.raises(EditError, match=r"edited\.json: found"):
        one.plan()


def test_a_picture_is_no_archive_of_edits(tmp_path):
    one = exported("png", tmp_path)
    path = tmp_path / "picture.png"
    PIL.Image.new("L", (37, 24)).save(path)
    assert "no image of the export" in next(iter(one.plan(path).refused.values()))


def with_each_value_replaced(content: Any) -> Iterator[Any]:
    """Copies of a JSON value in which one part, at any depth, is of another kind."""
    yield from (None, 3, -1.5, "x", [], {}, [[]], [None], True)
    if isinstance(content, dict | list):
        places = list(content) if isinstance(content, dict) else range(min(2, len(content)))
        for place in places:
            for other in with_each_value_replaced(content[place]):
                changed = content.copy()
                changed[place] = other
                yield changed


@pytest.mark.parametrize("kind", ["labelme", "label-studio", "coco"])
def test_whatever_stands_in_place_of_a_value_is_read_or_refused(tmp_path, kind):
    images = [one for one in hard_images(tmp_path / "photographs") if one.name == "same.png"]
    one = exported(kind, tmp_path, images=images)
    one.edit({"same.png": [(CLASSES[1], box(1, 1, 2, 2))]})
    path = one.out / "same.json" if kind == "labelme" else one.back
    outcomes = set()
    for content in with_each_value_replaced(json.loads(path.read_text())):
        path.write_text(json.dumps(content))
        try:
            outcomes.add(bool(one.plan(path).refused))
        except EditError:
            outcomes.add(None)
    assert outcomes == {True, False, None}
