"""Formats that are a mask beside every image."""

import json

import numpy as np
import pytest
import yaml

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportError, ExportPlan
from tests.support.export_images import CLASSES, export, files, hard_images, many_classes, pixels


def test_lightly_train_finds_a_mask_by_the_images_name_with_another_suffix(tmp_path):
    out, images, _ = export("lightly-train", tmp_path)
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content["classes"] == dict(enumerate(CLASSES))
    for one in images:
        placed = out / content[one.split]["images"] / (one.stem + one.file.suffix)
        assert placed.read_bytes() == one.file.read_bytes()
        name = placed.relative_to(out / content[one.split]["images"])
        mask = pixels((out / content[one.split]["masks"] / name).with_suffix(".png"))
        assert mask.ndim == 2
        labels = np.full(mask.shape, -1)
        for index in content["classes"]:
            labels[mask == index] = index
        assert np.array_equal(labels, one.labels), one.name


def test_fiftyone_pairs_by_stem_and_0_is_no_class(tmp_path):
    out, images, _ = export("fiftyone", tmp_path)
    data = {name.rsplit(".", 1)[0] for name in files(out / "data")}
    assert data == {name.rsplit(".", 1)[0] for name in files(out / "labels")}
    targets = {int(k): v for k, v in json.loads((out / "mask_targets.json").read_text()).items()}
    for one in images:
        mask = pixels(out / f"labels/{one.split}/{one.stem}.png")
        labels = np.full(mask.shape, -1)
        for value, name in targets.items():
            labels[mask == value] = CLASSES.index(name)
        assert np.array_equal(labels, one.labels), one.name
        assert not (set(np.unique(mask)) - {0} - set(targets))


def test_cityscapes_loaders_find_labels_by_the_images_name(tmp_path):
    out, images, _ = export("cityscapes", tmp_path)
    placed = files(out / "leftImg8bit")
    assert len(placed) == len(images)
    for one in images:
        *folders, last = one.stem.split("/")
        name = f"{one.split}/{'-'.join(folders) or 'images'}/{last}"
        (image,) = [p for p in placed if p.startswith(f"{name}_leftImg8bit.")]
        assert image.count("/") == 2, "split, city, file: no loader looks deeper"
        for kind in ("labelIds", "labelTrainIds"):
            mask = pixels(out / "gtFine" / (image.split("_leftImg8bit")[0] + f"_gtFine_{kind}.png"))
            assert np.array_equal(mask, np.where(one.labels == -1, 255, one.labels)), one.name


def test_images_whose_flat_names_meet_get_a_number(tmp_path):
    from dataclasses import replace

    one = hard_images(tmp_path / "photographs")[0]
    twins = [replace(one, stem=stem) for stem in ("a/b/x", "a-b/x", "a/b/x_leftImg8bit")]
    write_dataset("cityscapes", tmp_path / "out", ExportPlan(CLASSES), twins)
    assert files(tmp_path / "out/leftImg8bit") == {
        f"train/a-b/{name}_leftImg8bit.png" for name in ("x", "x-2", "x-3")
    }


@pytest.mark.parametrize(
    ("kind", "path"),
    [("lightly-train", "train/masks/long.png"), ("fiftyone", "labels/long.png")],
)
def test_300_classes_get_16_bits(tmp_path, kind, path):
    out, labels = many_classes(tmp_path, kind)
    values = pixels(out / path).astype(int) - (kind == "fiftyone")
    assert np.array_equal(np.where(values == 65535, -1, values), labels)


def test_cityscapes_refuses_300_classes(tmp_path):
    with pytest.raises(ExportError, match=r"cityscapes has room for 255.*export\.classes"):
        many_classes(tmp_path, "cityscapes")


def test_fiftyone_keeps_255_classes_in_8_bits(tmp_path):
    out, labels = many_classes(tmp_path, "fiftyone", 255)
    values = pixels(out / "labels/long.png")
    assert values.dtype == np.uint8
    assert np.array_equal(values, labels + 1)
