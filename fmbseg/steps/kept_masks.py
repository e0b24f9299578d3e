"""The masks that are trained on: which step makes them, where they lie, and those of an image."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import CocoMasks, read_coco
from fmbseg.types import PseudoMask

MASKS_FROM = "subsample"
"""Name of the step whose masks are trained on."""
SHARDS_HELD = 8
"""So many shards' masks are in memory at once, at most."""


def masks_file(workspace: Workspace, shard: str) -> Path:
    """The COCO file of a shard's masks that are trained on."""
    return workspace.root / "data" / MASKS_FROM / f"{shard}.json"


def automatic_file(workspace: Workspace, shard: str) -> Path:
    """The COCO file of all of a shard's masks of stage 1.2."""
    return workspace.pseudo_masks / shard / "stage12.json"


def kept_masks(workspace: Workspace, shard: str) -> CocoMasks:
    """The masks of one shard that are trained on."""
    return read_coco(masks_file(workspace, shard))


@dataclass(frozen=True)
class ImageMasks:
    """The masks of one image that are trained on.

    Attributes:
        masks: in the file's order; perhaps none.
        size_hw: of the image, px.
    """

    masks: list[PseudoMask]
    size_hw: tuple[int, int]


class KeptMasks:
    """The masks of any image; a few shards of them are in memory at a time.

    Images of one shard are best asked for one after the other, since another shard's file has to
    be read. Several threads may ask at once.
    """

    def __init__(
        self, workspace: Workspace, file_of: Callable[[Workspace, str], Path] = masks_file
    ) -> None:
        """Nothing is read until it is asked for.

        Args:
            workspace: whose images.
            file_of: the COCO file of a shard; the masks that are trained on.
        """
        self._shards = {name: shard for shard, names in shards(workspace).items() for name in names}
        self._reading = threading.Lock()  # of several threads that want a shard one reads it

        @functools.lru_cache(maxsize=SHARDS_HELD)
        def read(shard: str) -> dict[str, ImageMasks]:
            found = read_coco(file_of(workspace, shard))
            by_image = found.by_image()
            return {
                name: ImageMasks(by_image.get(name, []), size_hw)
                for name, size_hw in found.image_sizes_hw.items()
            }

        self._read = read

    def shard_of(self, image: str) -> str:
        """Name of the shard that an image belongs to."""
        return self._shards[image]

    def of(self, image: str) -> ImageMasks:
        """The masks of an image that stage 1 could read.

        Raises:
            StoreError: its shard's file is missing or damaged.
        """
        with self._reading:
            return self._read(self._shards[image])[image]
