"""Exports read by the tools they are for, each in a virtual environment of its own."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from fmbseg.export.labelled import LabelledImage
from tests.support.export_sources import SOURCES, Exported
from tests.support.judges import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

sources = pytest.mark.parametrize("source", SOURCES)


def compare(path: Path, images) -> None:
    """Hold a judge's label maps by stem, -1 where there is none, against those exported."""
    found = {json.loads(name): labels for name, labels in np.load(path).items()}
    assert set(found) == {one.stem for one in images}
    for one in images:
        assert np.array_equal(found[one.stem], one.labels), one.name


@sources
def test_pycocotools_reads_every_mask(exported, source):
    found = exported("coco", source)
    out, by_name = found.out, {one.stem + one.file.suffix: one for one in found.images}
    for split in ("train", "val"):
        coco = COCO(out / f"annotations/instances_{split}.json")
        assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(found.names)
        for image in coco.loadImgs(coco.getImgIds()):
            one = by_name.pop(image["file_name"])
            labels = np.full(one.image_hw, -1)
            for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
                labels[coco.annToMask(annotation) > 0] = annotation["category_id"] - 1
            assert np.array_equal(labels, one.labels)
    assert not by_name


DATUMARO = """
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset

data = Dataset.import_from(sys.argv[1], sys.argv[2])
names = [label.name for label in data.categories()[AnnotationType.label]]
first = names.index("background") + 1 if "background" in names else 0
maps = {}
for item in data:
    labels = np.full(item.media.size, -1)
    masks = [a for a in item.annotations if a.type == AnnotationType.mask]
    for mask in sorted(masks, key=lambda mask: (mask.z_order, mask.id)):
        labels[mask.image.astype(bool)] = mask.label - first
    maps[item.id] = np.maximum(labels, -1)
save(maps, sys.argv[3])
print(json.dumps(names[first:]))
"""


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("coco", "coco_instances"),
        ("coco-panoptic", "coco_panoptic"),
        ("cvat-images", "cvat"),
        ("cvat-masks", "voc_segmentation"),
        ("cvat-masks", "voc_instance_segmentation"),
    ],
)
@sources
def test_datumaro_reads_the_label_map(tmp_path, judge, exported, kind, reader, source):
    found = exported(kind, source)
    out, images = found.out, found.images
    if kind == "cvat-masks":
        with zipfile.ZipFile(out / "annotations.zip") as archive:
            archive.extractall(out / "unpacked")
        for one in images:  # VOC knows no splits of the image folder
            target = out / "unpacked/JPEGImages" / (one.stem + one.file.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(one.file.read_bytes())
        out = out / "unpacked"
    printed = run(
        judge("datumaro"), DATUMARO, tmp_path, str(out), reader, str(tmp_path / "found.npz")
    )
    assert json.loads(printed.splitlines()[-1]) == list(found.names)
    compare(tmp_path / "found.npz", images)


ULTRALYTICS = """
from ultralytics import YOLO
from ultralytics.data.dataset import SemanticDataset, YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask
from ultralytics.utils import DEFAULT_CFG, SETTINGS

yaml, task, network, target = sys.argv[1:]
SETTINGS.update(mlflow=False)
data = check_det_dataset(yaml)
maps = {}
for split in ("train", "val"):
    kind = SemanticDataset if task == "semantic" else YOLODataset
    found = kind(img_path=data[split], data=data, task=task, imgsz=64, hyp=DEFAULT_CFG,
                 augment=False)
    for i, entry in enumerate(found.labels):
        stem = Path(entry["im_file"]).relative_to(data[split]).as_posix().rsplit(".", 1)[0]
        if task == "semantic":
            labels = found.load_mask(i).astype(int)
            maps[stem] = np.where(labels == 255, -1, labels)
            continue
        hw = entry["shape"]
        maps[stem] = np.zeros((len(data["names"]), *hw), bool)
        for index, part in zip(entry["cls"][:, 0].astype(int), entry["segments"]):
            corners = (part * np.float32(hw[::-1])).reshape(-1)
            maps[stem][index] |= polygon2mask(hw, [corners]) > 0
save(maps, target)
model = YOLO(network, task=task)
model.train(data=yaml, epochs=1, imgsz=64, batch=4, device="cpu", workers=0, plots=False,
            amp=False, project="runs", verbose=False)
print("trained", Path(model.trainer.last).is_file())
"""


def train(found: Exported, task: str, network: str, tmp_path: Path, judge) -> list[LabelledImage]:
    """Let Ultralytics read an export and train an epoch on it; returns its images."""
    printed = run(
        judge("ultralytics"), ULTRALYTICS, tmp_path,
        str(found.out / "data.yaml"), task, network, str(tmp_path / "found.npz"),
    )  # fmt: skip
    assert printed.splitlines()[-1] == "trained True"
    return found.images


@sources
def test_ultralytics_reads_our_masks_and_trains_an_epoch_on_them(tmp_path, judge, exported, source):
    images = train(exported("ultralytics", source), "semantic", "yolo26n-sem.yaml", tmp_path, judge)
    found = {json.loads(name): labels for name, labels in np.load(tmp_path / "found.npz").items()}
    for one in images:
        assert np.array_equal(found[one.stem.replace("images/", "images_/")], one.labels), one.name


@sources
def test_ultralytics_fills_our_polygons_and_trains_an_epoch_on_them(
    tmp_path, judge, exported, source
):
    images = train(exported("yolo-seg", source), "segment", "yolo11n-seg.yaml", tmp_path, judge)
    found = {json.loads(name): masks for name, masks in np.load(tmp_path / "found.npz").items()}
    for one in images:
        covered = found[one.stem.replace("images/", "images_/")].any(0)
        assert np.array_equal(covered, one.labels >= 0), one.name


LIGHTLY = """
import yaml
from lightly_train._data import file_helpers
from lightly_train._data.mask_semantic_segmentation_dataset import (
    MaskSemanticSegmentationDataArgs, MaskSemanticSegmentationDataset)

folder = Path(sys.argv[1])
data = MaskSemanticSegmentationDataArgs.model_validate(
    yaml.safe_load((folder / "data.yaml").read_text()))
data.resolve_data_paths(folder)
maps = {}
for part in (data.get_train_args(), data.get_val_args()):
    listed = list(part.list_image_info())
    found = MaskSemanticSegmentationDataset(part, listed)
    for row in listed:
        path = Path(row["image_filepaths"])
        mask = file_helpers.open_mask_numpy(Path(row["mask_filepaths"]))
        assert file_helpers.open_image_numpy(path).shape[:2] == mask.shape
        labels = found.map_mask_labels_to_class_ids(mask)
        stem = path.relative_to(part.image_dir).as_posix().rsplit(".", 1)[0]
        maps[stem] = np.where(labels == part.ignore_index, -1, labels)
save(maps, sys.argv[2])
"""


@sources
def test_lightly_train_reads_our_masks(tmp_path, judge, exported, source):
    found = exported("lightly-train", source)
    run(judge("lightly-train"), LIGHTLY, tmp_path, str(found.out), str(tmp_path / "found.npz"))
    compare(tmp_path / "found.npz", found.images)


LABEL_STUDIO = """
from urllib.parse import unquote
from label_studio_sdk.converter.brush import decode_rle
from label_studio_sdk.label_interface import LabelInterface

folder = Path(sys.argv[1])
form = LabelInterface((folder / "config.xml").read_text())
form.validate()
names = list(form.get_control("labels").labels)
maps = {}
for task in json.loads((folder / "tasks.json").read_text()):
    (prediction,) = task["predictions"]
    assert form.validate_prediction(prediction, return_errors=True) == []
    name = unquote(task["data"]["image"].removeprefix("/data/local-files/?d=images/"))
    labels = np.full(json.loads(sys.argv[3]), -1)
    for result in prediction["result"]:
        hw = result["original_height"], result["original_width"]
        inside = decode_rle(result["value"]["rle"]).reshape(*hw, 4)[..., 3] > 0
        labels[inside] = names.index(result["value"]["brushlabels"][0])
    maps[name.rsplit(".", 1)[0]] = labels
save(maps, sys.argv[2])
"""


@sources
def test_label_studios_own_decoder_reads_our_brush_masks(tmp_path, judge, exported, source):
    found, maps = exported("label-studio", source), tmp_path / "found.npz"
    run(judge("label-studio-sdk"), LABEL_STUDIO, tmp_path, str(found.out), str(maps), found.size())
    compare(maps, found.images)


FIFTYONE = """
from fiftyone.utils.data.importers import ImageSegmentationDirectoryImporter

folder = Path(sys.argv[1])
reader = ImageSegmentationDirectoryImporter(dataset_dir=str(folder), compute_metadata=True)
reader.setup()
maps = {}
for path, about, label in reader:
    mask = label.get_mask()
    assert mask.shape == (about.height, about.width)
    split, _, stem = Path(path).relative_to(folder / "data").as_posix().partition("/")
    maps[stem.rsplit(".", 1)[0]] = mask.astype(int) - 1
save(maps, sys.argv[2])
"""


@sources
def test_fiftyones_importer_reads_our_directory(tmp_path, judge, exported, source):
    """The importer alone: a data set in the app needs a database server."""
    found, maps = exported("fiftyone", source), tmp_path / "found.npz"
    run(judge("fiftyone"), FIFTYONE, tmp_path, str(found.out.resolve()), str(maps))
    compare(maps, found.images)


LABELME = """
from labelme._label_file import read_label_file
from labelme.utils import img_data_to_arr, shapes_to_label

folder, found, names = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
maps = {}
for split in ("train", "val"):
    for path in sorted((folder / split).rglob("*.json")):
        data = read_label_file(str(path))
        values = {name: value for value, name in enumerate(names, start=1)}
        hw = img_data_to_arr(data.image_data).shape
        labels, _ = shapes_to_label(hw, data.shapes, values)
        maps[path.relative_to(folder / split).as_posix()[:-5]] = labels - 1
save(maps, found)
"""


@sources
def test_labelmes_own_reader_and_filler_give_the_label_map(tmp_path, judge, exported, source):
    found, maps = exported("labelme", source), tmp_path / "found.npz"
    run(judge("labelme"), LABELME, tmp_path, str(found.out), str(maps), json.dumps(found.names))
    compare(maps, found.images)


def test_labelme_opens_our_files(tmp_path, judge, exported):
    """As a program without a window; it says what it loaded, and is ended then."""
    program = judge("labelme") / "labelme"
    found = exported("labelme")
    environment = {**os.environ, "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"}
    for one in found.images[:3]:
        path = found.out / one.split / f"{one.stem}.json"
        process = subprocess.Popen(
            [program, path], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said = ""
            while "Loaded file" not in said:
                line = process.stdout.readline()
                if (not line and "xcb" in said + line) or process.poll() is not None:
                    pytest.skip(f"labelme does not start here: {said[-300:]}")
                said += line
            assert path.name in said.rpartition("Loaded file")[2]
        finally:
            process.kill()
            process.wait()
