import io
import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportError, ExportPlan
from tests.support.export_images import CLASSES, export, many_classes


def label_map(image: ElementTree.Element, classes: list[str]) -> np.ndarray:
    """Masks of an image painted by their z_order: runs row after row, the first outside."""
    labels = np.full((int(image.get("height")), int(image.get("width"))), -1)
    for mask in sorted(image.findall("mask"), key=lambda mask: int(mask.get("z_order"))):
        left, top, width, height = (int(mask.get(k)) for k in ("left", "top", "width", "height"))
        runs = [int(run) for run in mask.get("rle").split(",")]
        flat = [place % 2 for place, run in enumerate(runs) for _ in range(run)]
        inside = np.array(flat, bool).reshape(height, width)
        labels[top : top + height, left : left + width][inside] = classes.index(mask.get("label"))
    return labels


def test_masks_of_the_xml_file_give_the_label_map(tmp_path):
    out, images, _ = export("cvat-images", tmp_path)
    for split in ("train", "val"):
        root = ElementTree.parse(out / f"{split}.xml").getroot()
        assert root.findtext("version") == "1.1"
        names = [label.findtext("name") for label in root.iter("label")]
        assert names == list(CLASSES)
        expected = {one.stem + one.file.suffix: one for one in images if one.split == split}
        assert {image.get("name") for image in root.findall("image")} == set(expected)
        for image in root.findall("image"):
            one = expected[image.get("name")]
            assert np.array_equal(label_map(image, names), one.labels), one.name
            assert len(image.findall("mask")) == len(one.regions)
            assert (out / "images" / split / image.get("name")).is_file()


def test_score_and_origin_are_attributes_that_the_labels_declare(tmp_path):
    out, *_ = export("cvat-images", tmp_path)
    image = ElementTree.parse(out / "train.xml").getroot().find("image")
    found = [{a.get("name"): a.text for a in mask} for mask in image.findall("mask")]
    assert found == [{"origin": "1.2"}, {"score": "0.75", "origin": "1.1"}]
    for label in json.loads((out / "labels.json").read_text()):
        assert [attribute["name"] for attribute in label["attributes"]] == ["score", "origin"]


def read_zip(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def colours(data: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.array(picture).astype(int)


def test_colours_of_the_mask_archive_give_the_label_map(tmp_path):
    out, images, _ = export("cvat-masks", tmp_path)
    content = read_zip(out / "annotations.zip")
    lines = [x for x in content["labelmap.txt"].decode().splitlines() if not x.startswith("#")]
    table = {line.split(":")[0]: tuple(map(int, line.split(":")[1].split(","))) for line in lines}
    assert list(table) == ["background", *CLASSES]
    for split in ("train", "val"):
        listed = content[f"ImageSets/Segmentation/{split}.txt"].decode().splitlines()
        assert listed == [one.stem for one in images if one.split == split]
    for one in images:
        rgb = colours(content[f"SegmentationClass/{one.stem}.png"])
        labels = np.full(one.image_hw, -2)
        for index, colour in enumerate(table.values()):
            labels[(rgb == colour).all(-1)] = index - 1
        assert np.array_equal(labels, one.labels), one.name
        objects = colours(content[f"SegmentationObject/{one.stem}.png"])
        assert np.array_equal((objects == 0).all(-1), one.labels == -1)
        pairs = np.unique(np.concatenate([objects, labels[..., None]], -1).reshape(-1, 4), axis=0)
        assert len(np.unique(pairs[:, :3], axis=0)) == len(pairs), "an object has one class"


def test_the_colours_of_objects_are_pascal_vocs(tmp_path):
    out, *_ = export("cvat-masks", tmp_path)
    objects = colours(read_zip(out / "annotations.zip")["SegmentationObject/plain.png"])
    seen = {tuple(colour) for colour in objects.reshape(-1, 3).tolist()}
    assert seen == {(0, 0, 0), (128, 0, 0), (0, 128, 0)}


@pytest.mark.parametrize("name", ["background", "a:b", "#1"])
def test_names_that_a_line_of_the_label_map_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(ExportError, match=r"Rename it with export\.classes"):
        write_dataset("cvat-masks", tmp_path, ExportPlan(["road", name]), [])
    write_dataset("cvat-images", tmp_path, ExportPlan(["road", name]), [])


def test_300_classes_fit_both_and_more_objects_than_voc_has_colours_are_reported(tmp_path):
    out, labels = many_classes(tmp_path / "1", "cvat-images")
    root = ElementTree.parse(out / "annotations.xml").getroot()
    names = [label.findtext("name") for label in root.iter("label")]
    assert np.array_equal(label_map(root.find("image"), names), labels)
    out, labels = many_classes(tmp_path / "2", "cvat-masks")
    content = read_zip(out / "annotations.zip")
    lines = content["labelmap.txt"].decode().splitlines()[1:]
    table = [tuple(map(int, line.split(":")[1].split(","))) for line in lines]
    row = colours(content["SegmentationClass/long.png"])[0]
    assert [table.index(tuple(colour)) - 1 for colour in row.tolist()] == labels[0].tolist()
    assert "SegmentationObject/long.png" not in content
