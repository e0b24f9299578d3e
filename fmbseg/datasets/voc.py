"""PASCAL VOC 2012 segmentation: `voc21` with background, `voc20` without."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset, LabelFiles
from fmbseg.datasets.classes import ClassTable, voc_palette
from fmbseg.datasets.coco_names import STUFF
from fmbseg.datasets.label_files import Encoding, with_void
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.types import IGNORE

OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

CLASSES = {
    "voc21": ClassTable(("background", *OBJECTS), voc_palette(21), 0, STUFF),
    "voc20": ClassTable(OBJECTS, voc_palette(20, first=1)),
}

_SPLITS = {"train": "train", "val": "val", "trainval": "trainval"}
_TITLE = "VOC label pictures (0 background, 1-20, 255 border)"
_ENCODINGS = {
    "voc21": Encoding(_TITLE, with_void({label: label for label in range(21)})),
    "voc20": Encoding(
        _TITLE, with_void({0: IGNORE} | {label: label - 1 for label in range(1, 21)})
    ),
}


def load_voc(
    name: str, root: str | Path, split: str, *, with_labels: bool = True
) -> BenchmarkDataset:
    """Open VOC 2012 as its tar unpacks.

    `VOCdevkit/VOC2012/` with `ImageSets/Segmentation/<split>.txt`, `JPEGImages/<id>.jpg` and
    `SegmentationClass/<id>.png` (palette picture: 0 background, 1 to 20, 255 border).

    Args:
        name: "voc21": labels as they are; "voc20": background ignored, 1-20 become 0-19.
        root: holds VOCdevkit, or is VOCdevkit or VOC2012 itself.
        split: train, val or trainval.
        with_labels: False asks for images alone; no label file need be there.

    Raises:
        DatasetError: an unknown split, or an incomplete tree; all that is missing is named.
    """
    listed = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("VOCdevkit/VOC2012", "VOC2012", "."), ("JPEGImages", "ImageSets"))
    return open_listed(
        tree, CLASSES[name], _ENCODINGS[name], f"ImageSets/Segmentation/{listed}.txt",
        "SegmentationClass", with_labels,
    )  # fmt: skip


def open_listed(
    tree: Tree, classes: ClassTable, encoding: Encoding, list_file: str,
    labels_folder: str, with_labels: bool,
) -> BenchmarkDataset:  # fmt: skip
    """Open a VOC-like tree: a list of image ids, `JPEGImages/<id>.jpg`, one PNG an image.

    Args:
        tree: at the folder that holds JPEGImages.
        classes: what its indices mean.
        encoding: of its label files.
        list_file: one image id a line, relative to the tree's top.
        labels_folder: holds `<id>.png`, relative to the tree's top.
        with_labels: whether labels are wanted.

    Raises:
        DatasetError: the tree is incomplete.
    """
    ids = tree.listed(tree.top / list_file)
    images, labels = tree.top / "JPEGImages", tree.top / labels_folder
    there = tree.files(images, ".jpg")
    absent = [images / f"{stem}.jpg" for stem in ids if f"{stem}.jpg" not in there]
    tree.lacking("listed images", images, absent, len(ids))
    if with_labels:
        there = tree.files(labels, ".png")
        absent = [labels / f"{stem}.png" for stem in ids if f"{stem}.png" not in there]
        tree.lacking("labels of listed images", labels, absent, len(ids))
    tree.check()
    files = {f"{stem}.jpg": (f"{stem}.png", encoding) for stem in ids}
    targets = LabelFiles(labels, files) if with_labels else None
    return BenchmarkDataset(classes, images, tuple(files), targets)
