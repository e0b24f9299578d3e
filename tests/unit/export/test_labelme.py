import base64
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportError, ExportPlan
from tests.support.export_images import CLASSES, export, files, hard_images, many_classes


def label_map(content: dict[str, Any]) -> np.ndarray:
    """Shapes painted one over the other, as labelme's own export does."""
    labels = np.full((content["imageHeight"], content["imageWidth"]), -1)
    for shape in content["shapes"]:
        assert shape["shape_type"] == "mask"
        (left, top), (right, bottom) = shape["points"]
        with PIL.Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
            inside = np.array(picture).astype(bool)
        assert inside.shape == (bottom - top + 1, right - left + 1)
        labels[top : bottom + 1, left : right + 1][inside] = CLASSES.index(shape["label"])
    return labels


def test_a_file_beside_each_image_holds_its_masks(tmp_path):
    out, images, _ = export("labelme", tmp_path)
    for one in images:
        path = out / one.split / f"{one.stem}.json"
        content = json.loads(path.read_text())
        assert content["imageData"] is None
        assert (path.parent / content["imagePath"]).read_bytes() == one.file.read_bytes()
        assert np.array_equal(label_map(content), one.labels), one.name
    assert (out / "labels.txt").read_text() == "".join(f"{name}\n" for name in CLASSES)
    assert len(files(out)) == 2 * len(images) + 1


def test_score_and_origin_are_kept_and_shown(tmp_path):
    out, *_ = export("labelme", tmp_path)
    below, above = json.loads((out / "train/plain.json").read_text())["shapes"]
    assert (above["score"], above["origin"], above["description"]) == (0.75, "1.1", "1.1 0.75")
    assert ("score" in below, below["description"]) == (False, "1.2")


def test_300_classes_fit(tmp_path):
    out, _ = many_classes(tmp_path, "labelme")
    assert len(json.loads((out / "long.json").read_text())["shapes"]) == 300


def test_a_backslash_in_a_name_is_refused_since_labelme_takes_it_for_a_folder(tmp_path):
    one = replace(hard_images(tmp_path / "photographs")[0], name="a\\b.png", stem="a\\b")
    with pytest.raises(ExportError, match="backslash"):
        write_dataset("labelme", tmp_path / "out", ExportPlan(CLASSES), [one])
