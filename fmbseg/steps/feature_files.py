"""Frozen features on the disk: float16, memory-mapped, one file a shard of images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.store import require_space, sha_of, write_bytes

_BYTES = 2


@dataclass
class FeatureFiles:
    """The files of a training set.

    A file is named by the hash of what it is computed from, and appears whole or not at all: a
    training that is cut finds those that were finished, and so does a later training of the same
    workspace with other labels, seeds or losses.

    Attributes:
        folder: where they lie.
        made_with: what features follow from besides the images; JSON values.
        dim: length of a patch's features.
        left_bytes: room that is left for files.
    """

    folder: Path
    made_with: object
    dim: int
    left_bytes: float
    _found: dict[int, tuple[np.ndarray, tuple[int, int]]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def file_of(self, shas: Sequence[str], grids: Sequence[tuple[int, int]]) -> Path | None:
        """Where a shard's features belong; None where the room that is left does not hold them.

        Args:
            shas: of the shard's image files.
            grids: rows and columns of patches of each image.
        """
        size = sum(rows * cols for rows, cols in grids) * self.dim * _BYTES
        if size > self.left_bytes:
            return None
        self.left_bytes -= size
        name = f"{sha_of([self.made_with, self.dim, list(shas), list(grids)])[:32]}.npy"
        self._names.add(name)
        return self.folder / name

    def write(self, file: Path, features: Sequence[Float[Tensor, "_rows _cols dim"]]) -> None:
        """Write a shard's features.

        Raises:
            ValueError: a value does not fit into float16.
            DiskFullError: there is no room.
        """
        found = torch.cat([one.flatten(0, 1) for one in features]).half().numpy()
        if not np.isfinite(found).all():
            raise ValueError(
                "train.feature_cache: found disk, but this encoder's features go beyond float16; "
                "set memory or off"
            )
        require_space(self.folder, 2 * found.nbytes, "train: features")
        content = BytesIO()
        np.save(content, found)
        write_bytes(file, content.getvalue(), flush=False)

    def open(self, file: Path, images: Sequence[int], grids: Sequence[tuple[int, int]]) -> bool:
        """Map a shard's file, whose images `read` then knows; False when it is not there whole."""
        counts = [rows * cols for rows, cols in grids]
        try:
            array = np.load(file, mmap_mode="r")
        except (OSError, ValueError):
            return False
        if array.shape != (sum(counts), self.dim) or array.dtype != np.float16:
            return False
        parts = np.split(array, np.cumsum(counts)[:-1])
        self._found |= dict(zip(images, zip(parts, grids, strict=True), strict=True))
        return True

    def read(self, image: int) -> Float[Tensor, "rows cols dim"] | None:
        """The features of an image, float32; None where no file holds them."""
        if image not in self._found:
            return None
        rows, grid = self._found[image]
        features: Tensor = torch.from_numpy(rows.astype(np.float32)).unflatten(0, grid)
        return features

    def remove_others(self) -> None:
        """Remove the files that belong to other images or another encoder."""
        for file in self.folder.glob("*.npy"):
            if file.name not in self._names:
                file.unlink(missing_ok=True)
