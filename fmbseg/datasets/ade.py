"""ADE20K scene parsing: `ade150`."""

from pathlib import Path

from fmbseg.datasets.ade_names import COLOURS, NAMES
from fmbseg.datasets.benchmark import BenchmarkDataset, LabelFiles
from fmbseg.datasets.classes import ClassTable, Rgb
from fmbseg.datasets.label_files import Encoding, with_void
from fmbseg.datasets.tree import Tree, split_folder
from fmbseg.types import IGNORE


def _rgb(word: str) -> Rgb:
    red, green, blue = bytes.fromhex(word)
    return red, green, blue


CLASSES = {"ade150": ClassTable(NAMES, tuple(_rgb(word) for word in COLOURS.split()))}

_SPLITS = {"train": "training", "val": "validation"}
_ENCODING = Encoding(
    "ADE20K annotations (0 other, 1-150)",
    with_void({0: IGNORE} | {label: label - 1 for label in range(1, 151)}),
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
        with_labels: False asks for images alone; no label file need be there.

    Raises:
        DatasetError: an unknown split, or an incomplete tree; all that is missing is named.
    """
    folder = split_folder(name, split, _SPLITS)
    tree = Tree(name, root, ("ADEChallengeData2016", "."), ("images", "annotations"))
    images, labels = tree.top / "images" / folder, tree.top / "annotations" / folder
    names = sorted(tree.files(images, ".jpg"))
    if not names and images.is_dir():
        tree.note(f"images in {tree.place(images)}/, which holds no .jpg")
    files = {name: (name.removesuffix(".jpg") + ".png", _ENCODING) for name in names}
    if with_labels:
        there, wanted = tree.files(labels, ".png"), {file for file, _ in files.values()}
        absent = [labels / file for file in sorted(wanted - there)]
        tree.lacking("labels of images", labels, absent, len(names))
        absent = [images / f"{file.removesuffix('.png')}.jpg" for file in sorted(there - wanted)]
        tree.lacking("images of labels", images, absent, len(there))
    tree.check()
    targets = LabelFiles(labels, files) if with_labels else None
    return BenchmarkDataset(CLASSES[name], images, names, targets)
