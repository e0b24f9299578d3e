"""COCO 2017: `coco_stuff171`, `coco_object81` (things and background), `coco_things80`."""

from pathlib import Path
from typing import Literal

from fmbseg.datasets.base import DatasetError
from fmbseg.datasets.benchmark import BenchmarkDataset, LabelFiles, Targets
from fmbseg.datasets.classes import ClassTable, voc_palette
from fmbseg.datasets.coco_instances import InstanceTargets
from fmbseg.datasets.coco_names import RAW_IDS, STUFF, THINGS
from fmbseg.datasets.label_files import Encoding, with_void
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.types import IGNORE

CLASSES = {
    "coco_stuff171": ClassTable((*THINGS, *STUFF), voc_palette(171, first=1)),
    "coco_object81": ClassTable(("background", *THINGS), voc_palette(81), 0, STUFF),
    "coco_things80": ClassTable(THINGS, voc_palette(80, first=1)),
}

Source = Literal["maps", "instances"]

_SPLITS = {"train": "train2017", "val": "val2017"}


def _of_closed(name: str) -> dict[int, int]:
    """Class index of every closed number: 0-170 as in the files named labelTrainIds, and 255."""
    closed = range(len(RAW_IDS))
    if name == "coco_stuff171":
        return with_void({number: number for number in closed})
    if name == "coco_object81":
        objects = {number: number + 1 if number < len(THINGS) else 0 for number in closed}
        return {**objects, 255: 0}
    return with_void({number: number if number < len(THINGS) else IGNORE for number in closed})


def _encodings(name: str) -> dict[str, Encoding]:
    """What a label file may be called after the image's stem, best first, and its encoding."""
    closed = _of_closed(name)
    raw = {raw: closed[number] for number, raw in enumerate(RAW_IDS)} | {255: closed[255]}
    found = {
        ".png": Encoding("COCO stuffthingmaps (0-181 with gaps, 255 void)", raw),
        "_labelTrainIds.png": Encoding("closed COCO-Stuff numbers (0-170, 255 void)", closed),
    }
    if name != "coco_stuff171":
        nothing = 0 if name == "coco_object81" else IGNORE
        shift = 0 if name == "coco_object81" else -1
        things = {0: nothing} | {k: k + shift for k in range(1, 81)} | {255: nothing}
        found["_instanceTrainIds.png"] = Encoding("COCO-Object numbers (0-80)", things)
    return found


_ENCODINGS = {name: _encodings(name) for name in CLASSES}


def load_coco(
    name: str,
    root: str | Path,
    split: str,
    *,
    with_labels: bool = True,
    source: Source = "maps",
) -> BenchmarkDataset:
    """Open COCO 2017 with the label maps of COCO-Stuff.

    `coco_stuff164k/` with `images/{train,val}2017/<id>.jpg` and, in
    `annotations/{train,val}2017/`, `<id>.png` as the stuffthingmaps zip unpacks, or the converted
    `<id>_labelTrainIds.png` (mmsegmentation) or, for the two of things alone,
    `<id>_instanceTrainIds.png` (COCO-Object: 0 background, 1 to 80).

    Args:
        name: "coco_stuff171": all classes, void ignored; "coco_object81": things are 1-80, stuff
            and void 0, nothing ignored; "coco_things80": things are 0-79, all else ignored.
        root: holds coco_stuff164k, or is it.
        split: train or val.
        with_labels: False asks for images alone; no label file need be there.
        source: "instances" draws the two of things alone from
            `annotations/instances_{train,val}2017.json`; see `InstanceTargets` for how. The maps
            differ at overlaps and borders, so figures of the two do not compare.

    Raises:
        DatasetError: an unknown split or source, or an incomplete tree; all that is missing is
            named.
    """
    if source not in ("maps", "instances") or (source, name) == ("instances", "coco_stuff171"):
        raise DatasetError(
            f"{name}: source {source!r}; wanted 'maps'"
            + (", since instances hold no stuff" if source == "instances" else " or 'instances'")
        )
    folder = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("coco_stuff164k", "."), ("images", "annotations"))
    images = tree.top / "images" / folder
    names = sorted(tree.files(images, ".jpg"))
    if not names and images.is_dir():
        tree.note(f"images in {tree.place(images)}/, which holds no .jpg")
    targets: Targets | None = None
    if with_labels and source == "instances":
        file = tree.top / "annotations" / f"instances_{folder}.json"
        if not file.is_file():
            tree.note(tree.place(file))
        targets = InstanceTargets(file, first=1 if name == "coco_object81" else 0)
    elif with_labels:
        targets = _label_maps(name, tree, folder, names)
    tree.check()
    return BenchmarkDataset(CLASSES[name], images, names, targets)


def _label_maps(name: str, tree: Tree, folder: str, names: list[str]) -> LabelFiles:
    encodings = _ENCODINGS[name]
    labels = tree.top / "annotations" / folder
    there = tree.files(labels, ".png")
    files: dict[str, tuple[str, Encoding]] = {}
    for image in names:
        stem = image.removesuffix(".jpg")
        ending = next((end for end in encodings if stem + end in there), None)
        if ending is not None:
            files[image] = stem + ending, encodings[ending]
    without = [labels / f"{image[:-4]}.png" for image in names if image not in files]
    tree.lacking("labels of images", labels, without, len(names))
    with_image = {image.removesuffix(".jpg") for image in names}
    stems = {label.removesuffix(".png").split("_")[0] for label in there}
    images = tree.top / "images" / folder
    absent = [images / f"{stem}.jpg" for stem in sorted(stems - with_image)]
    tree.lacking("images of labels", images, absent, len(stems))
    return LabelFiles(labels, files)
