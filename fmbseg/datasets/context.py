"""PASCAL Context: `context60` with background, `context59` without."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset
from fmbseg.datasets.classes import ClassTable, voc_palette
from fmbseg.datasets.coco_names import STUFF
from fmbseg.datasets.label_files import Encoding, with_void
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.datasets.voc import open_listed
from fmbseg.types import IGNORE

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
        voc_palette(60),
        0,
        tuple(
            name for name in STUFF if name.split("-")[0] not in IDS_OF_459
        ),  # no kind of wall, ...
    ),
    "context59": ClassTable(NAMES, voc_palette(59, first=1)),
}

_SPLITS = {"train": "train", "val": "val"}
_TITLE = "PASCAL Context label pictures (0 background, 1-59)"
_ENCODINGS = {
    "context60": Encoding(_TITLE, with_void({label: label for label in range(60)})),
    "context59": Encoding(
        _TITLE, with_void({0: IGNORE} | {label: label - 1 for label in range(1, 60)})
    ),
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
        with_labels: False asks for images alone; no label file need be there.

    Raises:
        DatasetError: an unknown split, or an incomplete tree; all that is missing is named.
    """
    listed = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("VOCdevkit/VOC2010", "VOC2010", "."), ("JPEGImages", "ImageSets"))
    return open_listed(
        tree, CLASSES[name], _ENCODINGS[name],
        f"ImageSets/SegmentationContext/{listed}.txt", "SegmentationClassContext", with_labels,
    )  # fmt: skip
