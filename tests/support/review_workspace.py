"""A workspace with images and masks to review, written without any model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import encode_rles, write_coco, write_json
from fmbseg.types import PseudoMask, SamMask, Stage
from tests.conftest import REPOSITORY

CLASSES = ("sky", "<b>car</b>", "grass")
SIZE_HW = (40, 60)
Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a mask, px."""
Drawn = tuple[Stage, int, Box, float]
"""Stage, class index, box and predicted IoU of a mask."""
MASKS: tuple[Drawn, ...] = (
    ("1.1", 0, (0, 0, 60, 20), 0.9),
    ("1.1", 1, (10, 10, 30, 30), 0.95),
    ("1.2", 2, (0, 20, 60, 40), 0.8),
    ("1.2", 2, (12, 12, 28, 28), 0.7),  # wholly below the second one
)


def review_workspace(
    root: Path,
    images: Mapping[str, Sequence[Drawn]],
    classes: Sequence[str] = CLASSES,
    kept: bool = False,
    size_hw: tuple[int, int] = SIZE_HW,
) -> Workspace:
    """Write images of noise and their masks.

    Args:
        root: an empty folder.
        images: name to masks.
        classes: of the class file.
        kept: whether the step `subsample` has run; it kept stage 1.1 alone.
        size_hw: of every image, px.
    """
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {"images": str(root / "images"), "classes": str(root / "classes.txt")}
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    random = np.random.default_rng(0)
    for name in images:
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size_hw, 3), np.uint8)).save(path)
    listed = Listing.scan(root / "images")
    workspace = Workspace.open(root)
    write_json(
        workspace.downloads / "folder" / "listing.json", {"images": listed.images, "refused": []}
    )
    for shard, names in shards(workspace).items():
        folder, sizes = workspace.pseudo_masks / shard, dict.fromkeys(names, size_hw)
        masks = [_mask(name, one, classes, size_hw) for name in names for one in images[name]]
        first, second = ([one for one in masks if one.stage == stage] for stage in ("1.1", "1.2"))
        write_coco(folder / "stage11.json", first, sizes, classes)
        write_coco(folder / "stage12.json", second, sizes, classes)
        write_json(folder / "quarantine.json", [])
        write_json(folder / "manifest.json", {})
        if kept:
            write_coco(workspace.subsample / f"{shard}.json", first, sizes, classes)
    return workspace


def _mask(image: str, drawn: Drawn, classes: Sequence[str], size_hw: tuple[int, int]) -> PseudoMask:
    stage, index, (left, top, right, bottom), quality = drawn
    inside = np.zeros(size_hw, bool)
    inside[top:bottom, left:right] = True
    box = (float(left), float(top), float(right - left), float(bottom - top))
    found = SamMask(encode_rles(inside[None])[0], int(inside.sum()), box, quality, 0.9, ())
    return PseudoMask(image, index, classes[index], stage, 0.3, found)
