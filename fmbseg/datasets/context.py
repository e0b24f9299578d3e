"""PASCAL Context: `context60` with background, `context59` without."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset, open_listed
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.coco_names import STUFF
from fmbseg.datasets.entry import MB, Archive, Entry
from fmbseg.datasets.label_files import Encoding, counted
from fmbseg.datasets.tree import Tree, split_folder

IDS_OF_459 = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23,
    "bird": 25, "boat": 31, "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46,
    "car": 59, "cat": 65, "ceiling": 68, "chair": 72, "cloth": 80, "computer": 85, "cow": 98,
    "cup": 104, "curtain": 105, "dog": 113, "door": 115, "fence": 144, "floor": 158,
    "flower": 159, "food": 162, "grass": 187, "ground": 189, "horse": 207, "keyboard": 220,
    "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295,
    "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349,
    "sidewalk": 354, "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397,
    "track": 415, "train": 416, "tree": 420, "truck": 424, "tvmonitor": 427, "wall": 440,
    "water": 445, "window": 454, "wood": 458,
}  # fmt: skip
"""The 59 classes in mmsegmentation's order, each with its number among the 459 (1 to 459)."""

NAMES = tuple(IDS_OF_459)

CLASSES = {
    "context60": ClassTable(
        ("background", *NAMES),
        0,
        tuple(
            name for name in STUFF if name.split("-")[0] not in IDS_OF_459
        ),  # no kind of wall, ...
    ),
    "context59": ClassTable(NAMES),
}

_SPLITS = {"train": "train", "val": "val"}
_TITLE = "PASCAL Context label pictures (0 background, 1-59)"
_ENCODINGS = {
    "context60": Encoding(_TITLE, counted(60)),
    "context59": Encoding(_TITLE, counted(59, first=1)),
}


def load_context(
    name: str, root: str | Path, split: str, *, with_labels: bool = True
) -> BenchmarkDataset:
    """Open PASCAL Context in mmsegmentation's layout.

    `VOCdevkit/VOC2010/` with `ImageSets/SegmentationContext/<split>.txt`, `JPEGImages/<id>.jpg`
    and `SegmentationClassContext/<id>.png` (0 background, 1 to 59 in the order of `NAMES`).
    `fmbseg.datasets.context_convert` makes the lists and the label files from what the authors
    publish; those that mmsegmentation's converter made are the same. Label files whose classes
    stand in another order cannot be told apart by their numbers.

    Args:
        name: "context60": labels as they are; "context59": 0 ignored, 1-59 become 0-58.
        root: holds VOCdevkit, or is VOCdevkit or VOC2010 itself.
        split: train or val.
        with_labels: see `Entry.load`, also for the errors.
    """
    listed = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("VOCdevkit/VOC2010", "VOC2010", "."), ("JPEGImages", "ImageSets"))
    return open_listed(
        tree, CLASSES[name], _ENCODINGS[name],
        f"ImageSets/SegmentationContext/{listed}.txt", "SegmentationClassContext",
        with_labels=with_labels,
    )  # fmt: skip


def _convert(root: Path) -> None:
    from fmbseg.datasets.context_convert import convert_context  # which reads IDS_OF_459

    convert_context(root / "VOCdevkit" / "VOC2010")


_ARCHIVES = (
    Archive(
        ("http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",),
        1_300 * MB, md5="da459979d0c395079b5c75ee67908abb", file_name="VOCtrainval_03-May-2010.tar",
    ),
    Archive(
        ("https://codalabuser.blob.core.windows.net/public/trainval_merged.json",),
        file_name="trainval_merged.json", unpack_to="VOCdevkit/VOC2010",
    ),
    Archive(
        ("https://roozbehm.info/pascal-context/trainval.tar.gz",), file_name="trainval.tar.gz",
        unpack_to="VOCdevkit/VOC2010", instead_of="trainval_merged.json",
    ),
)  # fmt: skip
_SIZES = (("train", 4_998), ("val", 5_105))
_LICENCE = "images: Flickr's terms of use; annotations: not stated"
_HOME = "https://roozbehm.info/pascal-context/"
_NOTES = (
    "The annotations are converted after fetching.",
    "The splits here are VOC 2010's own lists; sources differ by some images, so count them.",
    "Should the JSON's host not answer, the 459-class .mat archive serves as well.",
)
ENTRIES = (
    Entry(
        "context59", load_context, "PASCAL Context, 59 classes", CLASSES["context59"], _SIZES,
        _LICENCE, _HOME, _ARCHIVES, "PC-59", "ignored", _NOTES, _convert,
    ),
    Entry(
        "context60", load_context, "PASCAL Context, 59 classes and background",
        CLASSES["context60"], _SIZES, _LICENCE, _HOME, _ARCHIVES, None,
        "is class 0; its text is the stuff names of COCO-Stuff that are no kind of the 59",
        _NOTES, _convert,
    ),
)  # fmt: skip
