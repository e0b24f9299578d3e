"""Cityscapes, finely annotated: `cityscapes19` as evaluated, `cityscapes30` as defined."""

from pathlib import Path

from fmbseg.datasets.benchmark import BenchmarkDataset, open_paired
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.entry import MB, Archive, Entry
from fmbseg.datasets.label_files import Encoding, counted
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.types import IGNORE

LABELS = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail",
    "bridge", "tunnel", "pole", "pole group", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan", "trailer", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
"""Name of each label id, 0 to 33: the data set's own table."""

EVALUATED = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)  # fmt: skip
"""Name of each train id, 0 to 18; the other labels have none."""

_FIRST_CLASS_ID = 4

CLASSES = {
    "cityscapes19": ClassTable(EVALUATED),
    "cityscapes30": ClassTable(LABELS[_FIRST_CLASS_ID:]),
}


def _train_ids() -> dict[int, int]:
    """Label id to train id, or IGNORE where there is none; 255 stands for no label."""
    indices = {name: index for index, name in enumerate(EVALUATED)}
    return {255: IGNORE} | {label: indices.get(name, IGNORE) for label, name in enumerate(LABELS)}


_SPLITS = {"train": "train", "val": "val"}
_TITLE = "Cityscapes label ids (0-33)"
_ENCODINGS = {
    "cityscapes19": {
        "_gtFine_labelIds.png": Encoding(_TITLE, _train_ids()),
        "_gtFine_labelTrainIds.png": Encoding("Cityscapes train ids (0-18, 255)", counted(19)),
    },
    "cityscapes30": {"_gtFine_labelIds.png": Encoding(_TITLE, counted(30, first=_FIRST_CLASS_ID))},
}


def load_cityscapes(
    name: str, root: str | Path, split: str, *, with_labels: bool = True
) -> BenchmarkDataset:
    """Open Cityscapes as its two zips unpack.

    `leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png` and
    `gtFine/<split>/<city>/<frame>_gtFine_labelIds.png`, or `_gtFine_labelTrainIds.png` where the
    first is absent.

    The 30 of "cityscapes30" are the class table of the Cityscapes paper and site: label ids 4 to
    33, that is all but the four that mark where nothing was annotated (0 unlabeled, 1 ego
    vehicle, 2 rectification border, 3 out of roi). So `static`, `dynamic` and `ground`, which the
    table groups as void, are classes here, as are the eight that the usual evaluation leaves out
    as too rare (parking, rail track, guard rail, bridge, tunnel, pole group, caravan, trailer).
    The train ids do not tell these eleven apart, so label ids are needed.

    Args:
        name: "cityscapes19": the train ids; "cityscapes30": label ids 4-33 become 0-29.
        root: holds leftImg8bit and gtFine, or a folder `cityscapes` with them.
        split: train or val; the labels of test are not published.
        with_labels: see `Entry.load`, also for the errors.
    """
    folder = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, (".", "cityscapes"), ("leftImg8bit", "gtFine"))
    return open_paired(
        tree, CLASSES[name], tree.top / "leftImg8bit" / folder, tree.top / "gtFine" / folder,
        "_leftImg8bit.png", _ENCODINGS[name], with_labels=with_labels, nested=True,
    )  # fmt: skip


_DOWNLOADS = ("https://www.cityscapes-dataset.com/downloads/",)
_ARCHIVES = (
    Archive(_DOWNLOADS, 11_600 * MB, file_name="leftImg8bit_trainvaltest.zip", login=True),
    Archive(_DOWNLOADS, 250 * MB, file_name="gtFine_trainvaltest.zip", login=True),
)
_SIZES = (("train", 2_975), ("val", 500))
_LICENCE = "Cityscapes' own terms, accepted on registration"
_HOME = "https://www.cityscapes-dataset.com/"
_NOTES = (
    "Needs an account: register on the home page, log in, fetch leftImg8bit_trainvaltest.zip and "
    "gtFine_trainvaltest.zip by hand, unpack both in one folder.",
)
ENTRIES = (
    Entry(
        "cityscapes19", load_cityscapes, "Cityscapes fine, the 19 evaluated classes",
        CLASSES["cityscapes19"], _SIZES, _LICENCE, _HOME, _ARCHIVES, "City",
        "there is none; the other labels are ignored", _NOTES,
    ),
    Entry(
        "cityscapes30", load_cityscapes, "Cityscapes fine, all 30 defined classes",
        CLASSES["cityscapes30"], _SIZES, _LICENCE, _HOME, _ARCHIVES, "City",
        "there is none; unlabelled pixels are ignored",
        (*_NOTES, "The paper says 30 categories; the usual protocol has 19."),
    ),
)  # fmt: skip
