"""PASCAL VOC 2012 segmentation: `voc21` with background, `voc20` without."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset, open_listed
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.coco_names import STUFF
from fmbseg.datasets.entry import Archive, Entry
from fmbseg.datasets.label_files import Encoding, counted
from fmbseg.datasets.tree import Tree, split_folder

OBJECTS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

CLASSES = {
    "voc21": ClassTable(("background", *OBJECTS), 0, STUFF),
    "voc20": ClassTable(OBJECTS),
}

_SPLITS = {"train": "train", "val": "val", "trainval": "trainval"}
_TITLE = "VOC label pictures (0 background, 1-20, 255 border)"
_ENCODINGS = {
    "voc21": Encoding(_TITLE, counted(21)),
    "voc20": Encoding(_TITLE, counted(20, first=1)),
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
        with_labels: see `Entry.load`, also for the errors.
    """
    listed = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("VOCdevkit/VOC2012", "VOC2012", "."), ("JPEGImages", "ImageSets"))
    return open_listed(
        tree, CLASSES[name], _ENCODINGS[name], f"ImageSets/Segmentation/{listed}.txt",
        "SegmentationClass", with_labels=with_labels,
    )  # fmt: skip


_ARCHIVES = (
    Archive(
        (
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            # The copy of the book Dive into Deep Learning; the published checksum vouches for it.
            "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
        ),
        1_999_639_040, 1_999_639_040, md5="6cd6e144f989b92b3379bac3b3de84fd",
        sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        file_name="VOCtrainval_11-May-2012.tar", splits=("train", "val", "trainval"),
    ),
)  # fmt: skip
_SIZES = (("train", 1_464), ("val", 1_449), ("trainval", 2_913))
_LICENCE = "images: Flickr's terms of use"
_HOME = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
ENTRIES = (
    Entry(
        "voc21", load_voc, "PASCAL VOC 2012, 20 objects and background", CLASSES["voc21"], _SIZES,
        _LICENCE, _HOME, _ARCHIVES, "PV-21",
        "is class 0; its text is the stuff names of COCO-Stuff",
    ),
    Entry(
        "voc20", load_voc, "PASCAL VOC 2012, 20 objects", CLASSES["voc20"], _SIZES, _LICENCE,
        _HOME, _ARCHIVES, "PV-20", "ignored",
    ),
)  # fmt: skip
