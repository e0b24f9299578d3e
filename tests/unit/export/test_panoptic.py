import json

import numpy as np

from tests.support.export_images import export, many_classes, pixels


def decoded(folder, annotation, categories):
    """Label map of one panoptic PNG, and the number of pixels of each segment."""
    rgb = pixels(folder / annotation["file_name"]).astype(int)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
    labels = np.full(ids.shape, -1)
    for info in annotation["segments_info"]:
        assert (ids == info["id"]).sum() == info["area"]
        left, top, width, height = info["bbox"]
        rows, columns = np.nonzero(ids == info["id"])
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        labels[ids == info["id"]] = categories.index(info["category_id"])
    listed = {info["id"] for info in annotation["segments_info"]}
    assert set(np.unique(ids)) - {0} == listed
    return labels


def test_segments_give_the_label_map_and_no_segment_is_without_pixels(tmp_path):
    out, images, _ = export("coco-panoptic", tmp_path)
    for split in ("train", "val"):
        content = json.loads((out / f"annotations/panoptic_{split}.json").read_text())
        categories = [category["id"] for category in content["categories"]]
        assert all(category["isthing"] in (0, 1) for category in content["categories"])
        names = {image["id"]: image["file_name"] for image in content["images"]}
        expected = {one.stem + one.file.suffix: one for one in images if one.split == split}
        assert set(names.values()) == set(expected)
        assert len(content["annotations"]) == len(expected)
        for annotation in content["annotations"]:
            one = expected[names[annotation["image_id"]]]
            labels = decoded(out / f"annotations/panoptic_{split}", annotation, categories)
            assert np.array_equal(labels, one.labels), one.name
            assert (out / "images" / split / names[annotation["image_id"]]).is_file()


def test_300_segments_need_the_second_byte(tmp_path):
    out, labels = many_classes(tmp_path, "coco-panoptic")
    content = json.loads((out / "annotations/panoptic_train.json").read_text())
    categories = [category["id"] for category in content["categories"]]
    found = decoded(out / "annotations/panoptic_train", content["annotations"][0], categories)
    assert np.array_equal(found, labels)
