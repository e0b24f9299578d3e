"""ADE20K scene parsing: `ade150`."""

from pathlib import Path

from fmbseg.datasets.ade_names import NAMES
from fmbseg.datasets.benchmark import BenchmarkDataset, open_paired
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.entry import MB, Archive, Entry
from fmbseg.datasets.label_files import Encoding, counted
from fmbseg.datasets.tree import Tree, split_folder

CLASSES = {"ade150": ClassTable(NAMES)}

_SPLITS = {"train": "training", "val": "validation"}
_ENCODING = Encoding(
    "ADE20K annotations (0 other, 1-150)",
    counted(150, first=1),
)


def load_ade(
    name: str, root: str | Path, split: str, *, with_labels: bool = True
) -> BenchmarkDataset:
    """Open ADE20K's scene parsing benchmark as its zip unpacks.

    `ADEChallengeData2016/` with `images/<split>/<id>.jpg` and `annotations/<split>/<id>.png`
    (0 other, which is ignored; 1 to 150 become 0 to 149).

    Args:
        name: "ade150".
        root: holds ADEChallengeData2016, or is it.
        split: train or val, or the folders' own training and validation.
        with_labels: see `Entry.load`, also for the errors.
    """
    folder = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("ADEChallengeData2016", "."), ("images", "annotations"))
    return open_paired(
        tree, CLASSES[name], tree.top / "images" / folder, tree.top / "annotations" / folder,
        ".jpg", {".png": _ENCODING}, with_labels=with_labels,
    )  # fmt: skip


ENTRIES = (
    Entry(
        "ade150", load_ade, "ADE20K scene parsing, 150 classes", CLASSES["ade150"],
        (("train", 20_210), ("val", 2_000)), "research use", "http://sceneparsing.csail.mit.edu/",
        (
            Archive(
                ("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
                1_000 * MB, file_name="ADEChallengeData2016.zip",
            ),
        ),
        "ADE", "ignored",
    ),
)  # fmt: skip
