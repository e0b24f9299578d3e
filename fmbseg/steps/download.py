"""Step `download`: put a data set in place, or record the listing of the user's own folder."""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fmbseg.miniature import world
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, list_images, run_unit, write_json


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
        DataError: the folder does not exist or holds no image.
    """

    def compute(out: Path) -> None:
        if workspace.data_set == "miniature":
            _draw(workspace, out)
            root = out / "train" / "images"
            images = {name: file_sha(root / name) for name in list_images(root)}
        else:
            images = _hashes(workspace)
        write_json(out / "listing.json", {"data_set": workspace.data_set, "images": images})

    return run_unit(workspace.download, key(workspace), compute)


def _hashes(workspace: Workspace) -> dict[str, str]:
    root = Path(workspace.params.data.images)
    if not root.is_dir():
        raise DataError(f"data.images: no folder {root}; wanted a folder of images")
    names = list_images(root)
    if not names:
        raise DataError(f"data.images: {root} holds no png, jpg, bmp, tif or webp image")
    return {name: file_sha(root / name) for name in names}


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
