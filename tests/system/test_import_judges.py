"""Exports edited by the tools' own code, each in an environment of its own, and imported."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.edited_exports import Exported, exported
from tests.support.export_images import CLASSES, decoded
from tests.support.judges import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

RING, SAME, SPECKLED = "with space/it's <i>.png", "same.png", 'images/a "quote" & 道路.png'
EDITED = {RING, SAME, "nothing.png"}

EDITS = """
RELABELLED, GROWN, ADDED = ("with space/it's <i>", "same", "nothing")

def edit(stem, masks, hw):
    "What the person does: masks are (label, pixels, kept), the lowest one first."
    if stem == RELABELLED:
        return [(names[2], masks[0][1], None), *masks[1:-1]]
    if stem == GROWN:
        return [(masks[0][0], np.pad(masks[0][1][:-2, :-3], ((2, 0), (3, 0))), None)]
    if stem == ADDED:
        rows, columns = np.mgrid[:hw[0], :hw[1]]
        return [(names[3], (rows + columns) % 5 < 2, None)]
    return masks
"""
"""The edits that every tool makes, as it shows the masks; it must know `names`, the classes."""


def hold(one: Exported, path: Path, found: Path) -> None:
    """Import, and hold the corrections against the masks that the tool itself says it has."""
    plan = one.take(path)
    assert set(plan.corrections) == EDITED
    said = {json.loads(name): pixels for name, pixels in np.load(found).items()}
    for name in EDITED:
        regions = one.saved(name).regions[::-1]
        stem = one.images[name].stem
        told = [said[key] for key in sorted(said) if key.rpartition("/")[0] == stem]
        assert len(told) == len(regions), name
        for region, layer in zip(regions, told, strict=True):
            assert np.array_equal(decoded(region.rle), layer >= 0), name
            assert CLASSES.index(region.class_name) == layer.max()
    assert one.saved(RING).regions[0].origin != "person", "one of the masks was left as it was"
    again = one.take(path)
    assert (again.corrections, again.known) == ({}, len(EDITED))


LABELME = """
from labelme._label_file import read_label_file, write_label_file
from labelme.utils import img_arr_to_b64, img_data_to_arr, shape_to_mask

folder, found, names = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
layers = {}
for split in ("train", "val"):
    for path in sorted((folder / split).rglob("*.json")):
        data = read_label_file(str(path))
        hw = img_data_to_arr(data.image_data).shape[:2]
        masks = []
        for shape in data.shapes:
            (left, top), (right, bottom) = np.asarray(shape["points"]).astype(int)
            whole = np.zeros(hw, bool)
            whole[top : bottom + 1, left : right + 1] = shape["mask"]
            masks.append((shape["label"], whole, shape))
        stem = path.relative_to(folder / split).as_posix()[:-5]
        shapes = []
        for place, (label, inside, kept) in enumerate(edit(stem, masks, hw)):
            rows, columns = np.nonzero(inside)
            box = [[columns.min(), rows.min()], [columns.max(), rows.max()]]
            if kept is None and stem == GROWN:  # drawn as a polygon
                points = [box[0], [box[1][0], box[0][1]], box[1], [box[0][0], box[1][1]]]
                shape = {"shape_type": "polygon", "points": np.array(points, float).tolist()}
                inside = shape_to_mask(hw, shape["points"], "polygon")
            else:
                part = inside[box[0][1] : box[1][1] + 1, box[0][0] : box[1][0] + 1]
                shape = {"shape_type": "mask", "points": np.array(box, float).tolist(),
                         "mask": img_arr_to_b64(part.astype(np.uint8))}
            about = {"label": label, "group_id": None, "description": "", "flags": {}}
            shapes.append(about | shape)
            layers[f"{stem}/{place:03}"] = np.where(inside, names.index(label), -1)
        write_label_file(str(path), shapes=shapes, image_path=data.image_path,
                         image_height=hw[0], image_width=hw[1], image_data=data.image_data)
save(layers, found)
"""


def test_what_labelme_saves_comes_back(tmp_path, judge):
    one = exported("labelme", tmp_path)
    found = tmp_path / "found.npz"
    run(judge("labelme"), EDITS + LABELME, tmp_path, str(one.out), str(found), json.dumps(CLASSES))
    hold(one, one.out, found)


LABEL_STUDIO = """
from label_studio_sdk.converter.brush import decode_rle, mask2rle

folder, found, names = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
layers, tasks = {}, json.loads((folder / "tasks.json").read_text())
for task in tasks:
    results = task["predictions"][0]["result"]
    hw = (24, 37)
    masks = [(one["value"]["brushlabels"][0],
              decode_rle(one["value"]["rle"]).reshape(*hw, 4)[..., 3] > 0, one) for one in results]
    stem = json.loads(sys.argv[4])[task["data"]["name"]]
    edited = []
    for place, (label, inside, kept) in enumerate(edit(stem, masks, hw)):
        result = kept or {
            "id": f"new{place}", "type": "brushlabels", "from_name": "labels", "to_name": "image",
            "original_width": hw[1], "original_height": hw[0], "image_rotation": 0,
            "value": {"format": "rle", "brushlabels": [label],
                      "rle": mask2rle(inside.astype(np.uint8) * (255 if place else 1))}}
        inside = decode_rle(result["value"]["rle"]).reshape(*hw, 4)[..., 3] > 0
        edited.append(result)
        layers[f"{stem}/{place:03}"] = np.where(inside, names.index(label), -1)
    task["annotations"] = [{"id": 1, "result": edited, "was_cancelled": False}]
Path(sys.argv[5]).write_text(json.dumps(tasks))
save(layers, found)
"""


def test_brush_masks_that_label_studios_sdk_packs_come_back(tmp_path, judge):
    one = exported("label-studio", tmp_path)
    found, back = tmp_path / "found.npz", tmp_path / "project-1.json"
    stems = json.dumps({name: image.stem for name, image in one.images.items()})
    run(
        judge("label-studio-sdk"), EDITS + LABEL_STUDIO, tmp_path,
        str(one.out), str(found), json.dumps(CLASSES), stems, str(back),
    )  # fmt: skip
    hold(one, back, found)


DATUMARO = """
from datumaro.components.annotation import AnnotationType, Mask
from datumaro.components.dataset import Dataset

source, kind, target, found, names = *sys.argv[1:5], json.loads(sys.argv[5])
data, layers = Dataset.import_from(source, kind), {}
assert [one.name for one in data.categories()[AnnotationType.label]] == names
for item in list(data):
    masks = sorted((one for one in item.annotations if one.type == AnnotationType.mask),
                   key=lambda mask: (mask.z_order, mask.id))
    shown = [(names[mask.label], mask.image.astype(bool), mask) for mask in masks]
    edited = []
    for place, (label, inside, kept) in enumerate(edit(item.id, shown, item.media.size)):
        edited.append(Mask(inside.astype(np.uint8), label=names.index(label), z_order=place,
                           id=place, group=place + 1))
        layers[f"{item.id}/{place:03}"] = np.where(inside, names.index(label), -1)
    data.put(item.wrap(annotations=edited))
data.export(target, sys.argv[6], save_media=False)
save(layers, found)
"""


@pytest.mark.parametrize(
    ("kind", "reader", "writer"),
    [("cvat-images", "cvat", "cvat"), ("coco", "coco_instances", "coco_instances")],
)
def test_what_datumaro_writes_comes_back(tmp_path, judge, kind, reader, writer):
    one = exported(kind, tmp_path)
    found, target = tmp_path / "found.npz", tmp_path / "written"
    shutil.copytree(one.out, source := tmp_path / "source", ignore=lambda *_: ["exported.jsonl"])
    run(
        judge("datumaro"), EDITS + DATUMARO, tmp_path,
        str(source), reader, str(target), str(found), json.dumps(CLASSES), writer,
    )  # fmt: skip
    hold(one, target, found)


def test_a_zip_of_what_datumaro_writes_comes_back(tmp_path, judge):
    one = exported("cvat-images", tmp_path)
    found, target = tmp_path / "found.npz", tmp_path / "written"
    run(
        judge("datumaro"), EDITS + DATUMARO, tmp_path,
        str(one.out), "cvat", str(target), str(found), json.dumps(CLASSES), "cvat",
    )  # fmt: skip
    with zipfile.ZipFile(back := tmp_path / "task.zip", "w") as archive:
        for path in target.rglob("*.xml"):
            archive.write(path, path.relative_to(target))
    hold(one, back, found)
