import numpy as np
import pytest
import yaml

from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportError, ExportPlan
from tests.support.export_images import CLASSES, export, files, many_classes, pixels


def test_the_mask_of_an_image_lies_where_ultralytics_looks_and_holds_class_indices(tmp_path):
    out, images, _ = export("ultralytics", tmp_path)
    placed = {name for name in files(out) if name.startswith("images/")}
    assert len(placed) == len(images)
    for one in images:
        stem = one.stem.replace("images/", "images_/")
        name = f"images/{one.split}/{stem}{one.file.suffix}"
        assert name in placed
        before, _, after = f"/{name}".rpartition("/images/")
        found = f"{before}/masks/{after}".rsplit(".", 1)[0] + ".png"
        mask = pixels(out / found[1:])
        assert np.array_equal(mask, np.where(one.labels == -1, 255, one.labels)), one.name
        assert mask.dtype == np.uint8
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content["masks_dir"] == "masks"
    assert content["names"] == dict(enumerate(CLASSES))


def test_too_many_classes_are_refused_with_the_limit_and_what_to_do(tmp_path):
    with pytest.raises(ExportError, match=r"255 classes.*found 300.*export\.classes"):
        many_classes(tmp_path, "ultralytics")


def test_one_class_is_refused_because_ultralytics_means_something_else_by_it(tmp_path):
    with pytest.raises(ExportError, match=r"two or more.*export\.unlabelled"):
        write_dataset("ultralytics", tmp_path, ExportPlan(["road"]), [])
