"""A disk cache of drawn world images, so that hours of training do not draw them again."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import Int16, UInt8

from fmbseg.miniature.things import PALETTE, THINGS
from fmbseg.miniature.world import CLASS_NAMES, SIZE_PX, Split, generate
from fmbseg.progress import tracked


@dataclass(frozen=True)
class Pool:
    """Images of one split as memory-mapped arrays.

    Attributes:
        images: RGB, 0 to 255.
        labels: class index per pixel (`world.CLASS_NAMES`).
        instances: 0 for stuff, i for the i-th thing of the image.
        thing_classes: class index of thing i at `[image, i - 1]`, -1 where there is none.
        thing_colours: index into `list(PALETTE)` likewise.
    """

    images: UInt8[np.ndarray, "image height width 3"]
    labels: UInt8[np.ndarray, "image height width"]
    instances: UInt8[np.ndarray, "image height width"]
    thing_classes: Int16[np.ndarray, "image 3"]
    thing_colours: Int16[np.ndarray, "image 3"]


def load_pool(
    cache: Path,
    seed: int,
    count: int,
    split: Split = "pretrain",
    thing_names: tuple[str, ...] = tuple(THINGS),
) -> Pool:
    """Open the pool of `count` images, drawing it first when it is not there.

    Two processes may call this at once: the second waits for the first. Nothing half-drawn is
    ever opened, since the folder gets its name only when it is complete.
    """
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{split}-{seed}-{count}-{len(thing_names)}"
    with FileLock(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                images = np.zeros((count, SIZE_PX, SIZE_PX, 3), np.uint8)
                labels = np.zeros((count, SIZE_PX, SIZE_PX), np.uint8)
                instances = np.zeros((count, SIZE_PX, SIZE_PX), np.uint8)
                classes = np.full((count, 3), -1, np.int16)
                colours = np.full((count, 3), -1, np.int16)
                drawn = generate(seed, count, split, thing_names=thing_names)
                for i, item in enumerate(tracked(drawn, "drawing the world", total=count)):
                    images[i], labels[i], instances[i] = item.image, item.labels, item.instances
                    for thing in item.things:
                        classes[i, thing.index - 1] = CLASS_NAMES.index(thing.name)
                        colours[i, thing.index - 1] = list(PALETTE).index(thing.colour)
                parts: dict[str, np.ndarray] = {
                    "images": images, "labels": labels, "instances": instances,
                    "thing_classes": classes, "thing_colours": colours,
                }  # fmt: skip
                ready = Path(temporary) / "ready"
                ready.mkdir()
                for name, array in parts.items():
                    np.save(ready / f"{name}.npy", array)
                os.rename(ready, folder)
    names = ("images", "labels", "instances", "thing_classes", "thing_colours")
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
