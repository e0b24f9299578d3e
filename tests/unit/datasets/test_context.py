import json
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fmbseg import datasets
from fmbseg.datasets import DatasetError, context_convert
from fmbseg.datasets.context import CLASSES, IDS_OF_459
from fmbseg.datasets.context_convert import (
    convert_context,
    convert_mats,
    convert_merged_json,
)
from fmbseg.store import write_bytes
from fmbseg.types import IGNORE
from tests.support import official_trees as trees

SORTED_IDS = sorted(
    [2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416, 33, 162,
     420, 454, 295, 296, 427, 44, 45, 46, 308, 59, 440, 445, 31, 232, 65, 354, 424, 68, 326, 72,
     458, 34, 207, 80, 355, 85, 347, 220, 349, 360, 98, 187, 104, 105, 366, 189, 368, 113, 115]
)  # fmt: skip
"""The 59 among the 459 as mmsegmentation's converter has them; label 1 is the first."""


def slow_labels(raw: np.ndarray) -> list[int]:
    return [
        SORTED_IDS.index(number) + 1 if number in SORTED_IDS else 0
        for number in raw.ravel().tolist()
    ]


def targets(root: Path, split: str, name: str = "context60") -> dict[str, np.ndarray]:
    data = datasets.load(name, root, split)
    found: dict[str, np.ndarray] = {}
    for sample in (data[i] for i in range(len(data))):
        assert sample.target is not None
        found[sample.name] = sample.target
    return found


def test_context60_is_the_labels_as_they_are_and_59_ignores_background(tmp_path: Path):
    written = trees.context(tmp_path)
    for name, target in targets(tmp_path, "val").items():
        np.testing.assert_array_equal(target, written[name])
    for name, target in targets(tmp_path, "val", "context59").items():
        expected = [number - 1 if number else IGNORE for number in written[name].ravel().tolist()]
        assert target.ravel().tolist() == expected
    names = CLASSES["context59"].names
    assert (names[0], names[29], names[35], names[58]) == ("aeroplane", "ground", "mouse", "wood")
    assert CLASSES["context60"].names == ("background", *names)


def test_names_and_numbers_of_the_59_agree_with_two_published_orders():
    """mmsegmentation's by number, and that of the PASCAL in Detail API, objects first."""
    assert list(IDS_OF_459.values()) == SORTED_IDS
    assert list(IDS_OF_459) == sorted(IDS_OF_459)
    detail = {
        "aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31, "bottle": 34, "bus": 45, "car": 59,
        "cat": 65, "chair": 72, "cow": 98, "table": 397, "dog": 113, "horse": 207,
        "motorbike": 258, "person": 284, "pottedplant": 308, "sheep": 347, "sofa": 368,
        "train": 416, "tvmonitor": 427,
    }  # fmt: skip
    assert detail.items() <= IDS_OF_459.items()


@pytest.mark.parametrize("source", ["json", "mats"])
def test_published_annotations_become_the_label_files_of_mmsegmentation(
    source: str, tmp_path: Path
):
    raw = trees.context_published(
        tmp_path, SORTED_IDS, json_file=source == "json", mats=source == "mats"
    )
    with pytest.raises(DatasetError, match=r"SegmentationContext/val\.txt.*SegmentationClassCont"):
        datasets.load("context60", tmp_path, "val")
    convert_context(tmp_path / "VOCdevkit/VOC2010")
    found = targets(tmp_path, "train") | targets(tmp_path, "val")
    assert list(found) == list(raw)
    assert len(targets(tmp_path, "train")) == len(targets(tmp_path, "val")) == 2
    for name, target in found.items():
        assert target.ravel().tolist() == slow_labels(raw[name])
        assert set(np.unique(target)) == set(range(60))


@pytest.mark.parametrize("source", ["json", "mats"])
def test_a_cut_conversion_goes_on_with_what_is_missing_or_cut(source: str, tmp_path: Path):
    trees.context_published(tmp_path, SORTED_IDS, json_file=source == "json", mats=source == "mats")
    top = tmp_path / "VOCdevkit/VOC2010"
    convert_context(top)
    labels = top / "SegmentationClassContext"
    whole = {path.name: path.read_bytes() for path in labels.iterdir()}
    (labels / "2008_000000.png").unlink()
    cut = labels / "2008_000001.png"
    cut.write_bytes(cut.read_bytes()[:-5])
    (labels / "2008_000002.png").write_bytes(b"")
    kept = (labels / "2008_000003.png").stat().st_mtime_ns
    convert_context(top)
    assert {path.name: path.read_bytes() for path in labels.iterdir()} == whole
    assert (labels / "2008_000003.png").stat().st_mtime_ns == kept


def test_the_lists_come_only_when_every_label_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.context_published(tmp_path, SORTED_IDS, json_file=True, mats=False)
    top = tmp_path / "VOCdevkit/VOC2010"
    calls: list[Path] = []

    def cut_after_two(path: Path, data: bytes, **options: bool) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(path)
        write_bytes(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(context_convert, "write_bytes", cut_after_two)
        with pytest.raises(KeyboardInterrupt):
            convert_context(top)
    assert not (top / "ImageSets/SegmentationContext").exists()
    assert len(list((top / "SegmentationClassContext").iterdir())) == 2
    convert_context(top)
    assert len(list((top / "SegmentationClassContext").iterdir())) == 4
    assert (top / "ImageSets/SegmentationContext/val.txt").is_file()


def test_later_annotations_lie_over_earlier_ones_and_plain_run_lengths_are_read(tmp_path: Path):
    first = np.zeros((4, 6), bool)
    first[1:, 2:] = True
    content = {
        "images": [{"image_id": 7, "file_name": "2008_000007.jpg", "height": 4, "width": 6,
                    "phase": "val"}],
        "annos_segmentation": [
            {"image_id": 7, "category_id": 2, "segmentation": trees.rle(first)},
            {"image_id": 7, "category_id": 458,
             "segmentation": {"size": [4, 6], "counts": [18, 4, 2]}},
        ],
    }  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(content))
    convert_merged_json(tmp_path / "m.json", tmp_path)
    with PIL.Image.open(tmp_path / "SegmentationClassContext/2008_000007.png") as picture:
        labels = np.asarray(picture)
    assert labels.tolist() == [
        [0, 0, 0, 0, 0, 59],
        [0, 0, 1, 1, 1, 59],
        [0, 0, 1, 1, 59, 1],
        [0, 0, 1, 1, 59, 1],
    ]


def test_damaged_annotations_are_named_after_the_good_ones_are_done(tmp_path: Path):
    trees.context_published(tmp_path, SORTED_IDS, json_file=False, mats=True)
    top = tmp_path / "VOCdevkit/VOC2010"
    (top / "trainval/2008_000001.mat").write_bytes(b"not a mat file" * 20)
    with pytest.raises(DatasetError, match=r"1 of 4 annotations cannot be read .*2008_000001"):
        convert_context(top)
    assert len(list((top / "SegmentationClassContext").iterdir())) == 3
    (top / "trainval/2008_000001.mat").unlink()
    convert_mats(top / "trainval", top)
    assert (len(targets(tmp_path, "train")), len(targets(tmp_path, "val"))) == (1, 2)


def test_sources_that_are_not_as_published_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"neither trainval_merged\.json nor trainval"):
        convert_context(tmp_path)
    (tmp_path / "trainval").mkdir()
    with pytest.raises(DatasetError, match=r"ImageSets/Main/train\.txt"):
        convert_context(tmp_path)
    merged = tmp_path / "trainval_merged.json"
    image = {"image_id": 1, "file_name": "a.jpg", "height": 2, "width": 3, "phase": "val"}
    segment = {"image_id": 1, "category_id": 1, "segmentation": {"size": [2, 3], "counts": [6]}}
    for content, words in (
        ({"images": [image], "annotations": []}, "no images with annos_segmentation"),
        ({"images": [image], "annos_segmentation": [segment]}, "category 1; wanted one of the 59"),
        ({"images": [{"id": 1}], "annos_segmentation": []}, "an entry is not as expected"),
    ):
        merged.write_text(json.dumps(content))
        with pytest.raises(DatasetError, match=words):
            convert_context(tmp_path)


def test_reading_the_json_takes_far_less_memory_than_the_file(tmp_path: Path):
    """Parts, borders and key points are passed over: 40 MB of them cost a few MB."""
    image = {"image_id": 1, "file_name": "a.jpg", "height": 2, "width": 3, "phase": "val"}
    segment = {"image_id": 1, "category_id": 2, "segmentation": {"size": [2, 3], "counts": [0, 6]}}
    ballast = json.dumps({"boundary_mask": "x" * 40_000})
    with (tmp_path / "m.json").open("w") as stream:
        stream.write('{"annos_boundary": [' + ", ".join([ballast] * 1000) + "], ")
        stream.write(json.dumps({"images": [image], "annos_segmentation": [segment]})[1:])
    assert (tmp_path / "m.json").stat().st_size > 40_000_000
    tracemalloc.start()
    convert_merged_json(tmp_path / "m.json", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000
