import json

import numpy as np
import pytest

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportPlan
from tests.support.export_images import CLASSES, decoded, export, files, hard_images, many_classes


def test_every_region_comes_back_and_painting_in_the_files_order_gives_the_label_map(tmp_path):
    out, images, _ = export("coco", tmp_path)
    seen = set()
    for split in ("train", "val"):
        content = json.loads((out / f"annotations/instances_{split}.json").read_text())
        assert [c["name"] for c in content["categories"]] == list(CLASSES)
        expected = {one.stem + one.file.suffix: one for one in images if one.split == split}
        assert {image["file_name"] for image in content["images"]} == set(expected)
        for image in content["images"]:
            one = expected[image["file_name"]]
            assert (image["height"], image["width"]) == one.image_hw
            labels = np.full(one.image_hw, -1)
            own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert len(own) == len(one.regions)
            for annotation in own:
                inside = decoded(annotation["segmentation"])
                labels[inside] = annotation["category_id"] - 1
                left, top, width, height = annotation["bbox"]
                assert inside[top : top + height, left : left + width].sum() == annotation["area"]
                assert inside.sum() == annotation["area"]
            assert np.array_equal(labels, one.labels), one.name
            assert (out / "images" / split / image["file_name"]).is_file()
        seen |= {image["id"] for image in content["images"]}
    assert len(seen) == len(images), "an image's number is its own in both files"


def test_score_and_origin_stand_in_every_annotation_that_has_one(tmp_path):
    out, *_ = export("coco", tmp_path)
    content = json.loads((out / "annotations/instances_train.json").read_text())
    own = [a for a in content["annotations"] if a["image_id"] == 1]
    assert [(a.get("score"), a["origin"]) for a in own] == [(None, "1.2"), (0.75, "1.1")]


def test_300_classes_fit(tmp_path):
    out, _ = many_classes(tmp_path, "coco")
    content = json.loads((out / "annotations/instances_train.json").read_text())
    assert [a["category_id"] for a in reversed(content["annotations"])] == list(range(1, 301))
    assert "annotations/instances_val.json" not in files(out)


@pytest.mark.parametrize("kind", ["coco", "png"])
def test_an_error_on_the_way_leaves_no_half_written_file(tmp_path, kind):
    images = hard_images(tmp_path / "photographs")

    def failing():
        yield images[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_dataset(kind, tmp_path / "out", ExportPlan(CLASSES), failing())
    left = files(tmp_path / "out")
    assert not [name for name in left if name.endswith((".json", ".csv")) or ".tmp" in name]
