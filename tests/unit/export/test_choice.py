"""What is exported: classes, splits, names, regions and the labels that they paint."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fmbseg.export.classes import class_map
from fmbseg.export.formats import FORMATS
from fmbseg.export.labelled import NONE, ExportError
from fmbseg.export.regions import (
    chosen,
    in_classes,
    paint,
    region_of,
    regions_of_map,
    regions_of_masks,
)
from fmbseg.export.settings import FormatName
from fmbseg.export.split import listed_splits, splits, stems
from fmbseg.pseudo.confidence import mask_confidences
from fmbseg.store import decode_rle
from fmbseg.types import PseudoMask, SamMask, Stage
from tests.support.masks import encode_rle

KNOWN = ("sky", "car", "bus", "road")


def test_params_name_the_formats_of_the_table() -> None:
    assert list(get_args(FormatName)) == list(FORMATS)


def test_classes_are_chosen_merged_and_ordered() -> None:
    found = class_map(KNOWN, ["vehicle=car=bus", "sky"], "none")
    assert found.names == ("vehicle", "sky")
    assert found.index_of == (1, 0, 0, NONE)
    assert found.rest == NONE
    whole = class_map(KNOWN, None, "background")
    assert whole.names == (*KNOWN, "background")
    assert whole.rest == 4
    assert class_map(KNOWN, None, "road").rest == 3, "a class that is there already"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["plane"], "found 'plane'.*wanted some of sky, car"),
        (["a=car", "b=car"], "'car' stands in two lines"),
        (["sky", "sky=road"], "two classes called 'sky'"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(lines: list[str], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        class_map(KNOWN, lines, "none")


def test_an_image_keeps_its_split_whatever_comes_beside_it() -> None:
    names = [f"{index}.png" for index in range(2000)]
    few, many = splits(names[:500], 0.2, 3), splits(names, 0.2, 3)
    assert all(many[name] == split for name, split in few.items())
    larger = splits(names, 0.5, 3)
    assert all(larger[name] == "val" for name, split in many.items() if split == "val")
    assert 0.17 < list(many.values()).count("val") / 2000 < 0.23
    assert splits(names, 0.2, 4) != many
    assert set(splits(names, 0.0, 3).values()) == {"train"}
    assert set(splits(names, 1.0, 3).values()) == {"val"}


def test_a_list_names_val_and_a_name_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "val.txt"
    file.write_text("b/ö 1.png\n\n")
    assert listed_splits(["a.png", "b/ö 1.png"], file) == {"a.png": "train", "b/ö 1.png": "val"}
    with pytest.raises(ExportError, match=r"names 1 images .*'b/ö 1.png'.*such as 'a.png'"):
        listed_splits(["a.png"], file)
    with pytest.raises(ExportError, match="cannot be read"):
        listed_splits(["a.png"], tmp_path / "none.txt")


def test_two_images_of_one_stem_are_called_differently() -> None:
    found = stems(["a/x.jpg", "a/x.png", "a/X.PNG", "b/x.jpg"])
    assert found["b/x.jpg"] == "b/x"
    assert len({name.casefold() for name in found.values()}) == 4


def pseudo(inside: np.ndarray, index: int, stage: Stage, predicted_iou: float = 0.9) -> PseudoMask:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = (
        float(columns[0]), float(rows[0]),
        float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1),
    )  # fmt: skip
    mask = SamMask(encode_rle(inside), int(inside.sum()), box, predicted_iou, 0.9, ())
    return PseudoMask("a.png", index, KNOWN[index], stage, 0.3, mask)


def block(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    inside = np.zeros((20, 30), bool)
    inside[top:bottom, left:right] = True
    return inside


def test_confidence_is_sams_estimate_times_what_the_other_stage_says() -> None:
    mine = pseudo(block(0, 10, 0, 10), 1, "1.1", 0.8)
    same = pseudo(block(0, 10, 0, 4), 1, "1.2")
    other = pseudo(block(0, 10, 4, 6), 2, "1.2")
    (found,) = mask_confidences([mine], [mine, same, other])
    assert found == pytest.approx(0.8 * (0.4 + 0.5 * 0.4))
    assert mask_confidences([mine], [mine]) == [pytest.approx(0.4)], "nobody else says anything"
    assert mask_confidences([same], [mine, same, other]) == [pytest.approx(0.9)]
    assert mask_confidences([], []) == []


def test_masks_become_regions_and_the_first_one_wins_a_pixel() -> None:
    large, small = pseudo(block(0, 20, 0, 30), 0, "1.2"), pseudo(block(5, 9, 5, 9), 1, "1.1")
    regions = regions_of_masks([large, small], [large, small])
    assert [region.origin for region in regions] == ["1.1", "1.2"]
    assert regions[0].box_xywh_px == (5, 5, 4, 4)
    labels, confidence = paint(regions, (20, 30))
    assert (labels[5:9, 5:9] == 1).all()
    assert (labels == 0).sum() == 600 - 16
    assert confidence[6, 6] == pytest.approx(regions[0].score)
    bare, nothing = paint([], (20, 30), rest=3)
    assert (bare == 3).all()
    assert not nothing.any()


def test_a_map_becomes_its_connected_parts() -> None:
    labels = np.full((20, 30), NONE, np.int32)
    labels[0:5, 0:5], labels[5:9, 5:9], labels[0:20, 20:30] = 1, 1, 1  # two touch at a corner
    labels[10:12, 22:24] = 2
    confidence = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    regions = regions_of_map(labels, confidence)
    assert [(r.class_index, r.area_px) for r in regions] == [(1, 196), (1, 41), (2, 4)]
    ring = decode_rle(regions[0].rle)
    assert not ring[10:12, 22:24].any(), "a hole stays a hole"
    assert regions[0].score == pytest.approx(float(confidence[ring].mean()), abs=1e-6)
    again, _ = paint(regions, (20, 30))
    assert np.array_equal(again, labels)


def test_small_unsure_and_unwanted_regions_are_left_out() -> None:
    classes = class_map(KNOWN, ["vehicle=car=bus"], "none")
    sure = region_of(block(0, 10, 0, 10), 1, 0.9, "1.1")
    regions = [
        sure,
        region_of(block(0, 10, 0, 10), 1, 0.4, "1.1"),
        region_of(block(0, 1, 0, 2), 2, 0.9, "1.1"),
        region_of(block(0, 10, 0, 10), 3, 0.9, "1.1"),
        region_of(block(0, 10, 10, 20), 2, None, "person"),
    ]
    found = chosen(regions, classes, min_confidence=0.5, min_area_px=3)
    assert [(r.class_index, r.origin) for r in found] == [(1, "1.1"), (2, "person")]
    assert [r.class_index for r in in_classes(found, classes)] == [0, 0]
    assert classes.parts_of(0) == ("car", "bus")
    assert found[0].rle == sure.rle
