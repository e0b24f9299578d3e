"""COCO 2017: `coco_stuff171`, `coco_object81` (things and background), `coco_things80`."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset, open_paired
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.coco_names import RAW_IDS, STUFF, THINGS
from fmbseg.datasets.entry import MB, Archive, Entry
from fmbseg.datasets.label_files import Encoding, counted
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.types import IGNORE

CLASSES = {
    "coco_stuff171": ClassTable((*THINGS, *STUFF)),
    "coco_object81": ClassTable(("background", *THINGS), 0, STUFF),
    "coco_things80": ClassTable(THINGS),
}

_SPLITS = {"train": "train2017", "val": "val2017"}


def _of_closed(name: str) -> dict[int, int]:
    """Class index of every closed number: 0-170 as in the files named labelTrainIds, and 255."""
    if name == "coco_stuff171":
        return counted(len(RAW_IDS))
    closed = range(len(RAW_IDS))
    if name == "coco_object81":
        objects = {number: number + 1 if number < len(THINGS) else 0 for number in closed}
        return {**objects, 255: 0}
    return dict.fromkeys([*closed, 255], IGNORE) | counted(len(THINGS))


def _encodings(name: str) -> dict[str, Encoding | None]:
    """What a label file may be called after the image's stem, best first, and its encoding."""
    closed = _of_closed(name)
    raw = {raw: closed[number] for number, raw in enumerate(RAW_IDS)} | {255: closed[255]}
    found: dict[str, Encoding | None] = {
        ".png": Encoding("COCO stuffthingmaps (0-181 with gaps, 255 void)", raw),
        "_labelTrainIds.png": Encoding("closed COCO-Stuff numbers (0-170, 255 void)", closed),
        "_instanceTrainIds.png": None,
    }
    if name != "coco_stuff171":
        things = counted(80, first=1)
        if name == "coco_object81":
            things = counted(81) | {255: 0}
        found["_instanceTrainIds.png"] = Encoding("COCO-Object numbers (0-80)", things)
    return found


_ENCODINGS = {name: _encodings(name) for name in CLASSES}


def load_coco(
    name: str, root: str | Path, split: str, *, with_labels: bool = True
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

    Raises:
        DatasetError: an unknown split, or an incomplete tree; all that is missing is named.
    """
    folder = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("coco_stuff164k", "."), ("images", "annotations"))
    images, labels = tree.top / "images" / folder, tree.top / "annotations"
    return open_paired(
        tree, CLASSES[name], images, labels / folder, ".jpg", _ENCODINGS[name],
        with_labels=with_labels,
    )  # fmt: skip


_BUCKET = "https://s3.amazonaws.com/images.cocodataset.org"  # the official one, with TLS
_ARCHIVES = (
    Archive(
        ("http://images.cocodataset.org/zips/val2017.zip", f"{_BUCKET}/zips/val2017.zip"),
        815_585_330, 815_585_330,
        sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        file_name="val2017.zip", unpack_to="coco_stuff164k/images", splits=("val",),
    ),
    Archive(
        ("http://images.cocodataset.org/zips/train2017.zip", f"{_BUCKET}/zips/train2017.zip"),
        19_336_861_798, 19_336_861_798,
        sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        file_name="train2017.zip", unpack_to="coco_stuff164k/images", splits=("train",),
    ),
    Archive(
        ("https://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
         "stuffthingmaps_trainval2017.zip",),
        659 * MB, file_name="stuffthingmaps_trainval2017.zip",
        unpack_to="coco_stuff164k/annotations",
    ),
)  # fmt: skip
_SIZES = (("train", 118_287), ("val", 5_000))
_LICENCE = "images: Flickr's terms of use; annotations: CC BY 4.0"
_HOME = "https://github.com/nightrome/cocostuff"
ENTRIES = (
    Entry(
        "coco_stuff171", load_coco, "COCO-Stuff 164k, 80 things and 91 stuff classes",
        CLASSES["coco_stuff171"], _SIZES, _LICENCE, _HOME, _ARCHIVES, "CS-171",
        "there is none; void is ignored",
    ),
    Entry(
        "coco_object81", load_coco, "COCO-Object, 80 things and background",
        CLASSES["coco_object81"], _SIZES, _LICENCE, _HOME, _ARCHIVES, None,
        "is class 0; its text is the stuff names of COCO-Stuff",
    ),
    Entry(
        "coco_things80", load_coco, "COCO-Object, 80 things", CLASSES["coco_things80"], _SIZES,
        _LICENCE, _HOME, _ARCHIVES, "CO-80", "ignored",
    ),
)  # fmt: skip
