"""Step `download`: put a data set in place, or record the listing of the user's own folder."""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fmbseg.miniature import world
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, list_images, run_unit, write_json
from fmbseg.vocabulary import read_classes


class DataError(ValueError):
    """The images or classes that params.yaml names cannot be used."""


def key(workspace: Workspace) -> UnitKey:
    """Content key of the data set in place."""
    data = workspace.params.data
    if workspace.data_set == "miniature":
        names = {"train_images", "val_images", "test_images"}
        return workspace.key(
            "download", {}, {**data.model_dump(include=names), "seed": workspace.params.seed}
        )
    return workspace.key("download", _hashes(workspace), {"images": data.images})


def run(workspace: Workspace) -> bool:
    """Make `data/download/<data set>/`; True when there was something to do.

    The miniature is drawn (PNG images, labels, classes.txt). A folder of the user's own stays
    where it is: only its listing with content hashes is recorded.

    Raises:
        DataError: see `check`.
        VocabularyError: see `check`.
    """
    check(workspace)

    def compute(out: Path) -> None:
        if workspace.data_set == "miniature":
            _draw(workspace, out)
            root = out / "train" / "images"
            images = {name: file_sha(root / name) for name in list_images(root)}
        else:
            images = _hashes(workspace)
        write_json(out / "listing.json", {"data_set": workspace.data_set, "images": images})

    return run_unit(workspace.download, key(workspace), compute)


def check(workspace: Workspace) -> None:
    """Refuse images, classes or labels that no step could use, before any step starts.

    Raises:
        DataError: a folder or the class file does not exist, or there is no image.
        VocabularyError: the class file cannot be used.
    """
    if workspace.data_set == "miniature":
        return
    data = workspace.params.data
    root, labels = Path(data.images), data.labels
    if not root.is_dir():
        raise DataError(f"data.images: no folder {root}; wanted a folder of images")
    if not list_images(root):
        raise DataError(f"data.images: {root} holds no png, jpg, bmp, tif or webp image")
    if labels is not None and not Path(labels).is_dir():
        raise DataError(f"data.labels: no folder {labels}; wanted label PNGs, or null")
    if not workspace.classes_path().is_file():
        raise DataError(
            f"data.classes: no file {workspace.classes_path()}; wanted one class name a line"
        )
    read_classes(workspace.classes_path())


def _hashes(workspace: Workspace) -> dict[str, str]:
    root = Path(workspace.params.data.images)
    return {name: file_sha(root / name) for name in list_images(root)}


def _draw(workspace: Workspace, out: Path) -> None:
    data, seed = workspace.params.data, workspace.params.seed
    counts: tuple[tuple[world.Split, int], ...] = (
        ("train", data.train_images), ("val", data.val_images), ("test", data.test_images)
    )  # fmt: skip
    for split, count in counts:
        for folder in ("images", "labels"):
            (out / split / folder).mkdir(parents=True)
        drawn = world.generate(seed, count, split)
        for item in tqdm(drawn, total=count, desc=f"download: drawing {split}"):
            Image.fromarray(item.image).save(out / split / "images" / f"{item.name}.png")
            labels = Image.fromarray(item.labels.astype(np.uint8))
            labels.save(out / split / "labels" / f"{item.name}.png")
    (out / "classes.txt").write_text("\n".join(world.SEEN_CLASS_NAMES) + "\n")
