"""What stage 2 is trained on: the labels of every image's patches, and the frozen features."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from fmbseg.ahead import ahead
from fmbseg.align.batches import labelled_images
from fmbseg.models.protocols import Encoder, VisionModel, encoder_of
from fmbseg.progress import progress
from fmbseg.pseudo.patch_labels import patch_labels
from fmbseg.steps.label_maps import LabelMaps
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image


class Features:
    """Frozen patch features by image index; kept in memory (fp32) up to the budget.

    Several threads may ask at once.

    Attributes:
        dim: length of a patch's features.
    """

    def __init__(self, workspace: Workspace, names: list[str], vision: VisionModel) -> None:
        """Nothing is computed until it is asked for."""
        self._vision, self.dim = vision, vision.dim
        self._workspace, self._names = workspace, names
        self._budget_bytes = workspace.params.train.feature_cache_gb * 1e9
        self._cached: dict[int, Tensor] = {}
        self._caching = threading.Lock()

    def __call__(self, index: int) -> Float[Tensor, "rows cols dim"]:
        """The features of one image, float32."""
        if index in self._cached:
            return self._cached[index]
        return self._kept(index, self._vision.encode(self._read(index)))

    def _read(self, index: int) -> Image:
        return self._workspace.read_image(self._names[index])

    def _kept(self, index: int, features: Tensor) -> Tensor:
        size = features.numel() * features.element_size()
        with self._caching:
            if size <= self._budget_bytes and index not in self._cached:
                self._cached[index] = features
                self._budget_bytes -= size
        return features

    def patch_labels(self, maps: LabelMaps) -> list[UInt8[Tensor, "_rows _cols"]]:
        """Every image's patch labels on its features' grid, which follows from its size."""

        def on_grid(index: int) -> Tensor:
            label_map = maps.map_of(index)
            height, width = label_map.shape
            return patch_labels(label_map, self._vision.grid_hw((height, width)))

        return self._over_threads("train: patch labels", on_grid)

    def prepare(self, labels: Sequence[Integer[Tensor, "_rows _cols"]]) -> None:
        """Compute the features of all labelled images, if all fit into memory.

        Over threads, or several images at once where the encoder is glad of it. If not all fit,
        none is computed before it is asked for: most would not be kept. On a processor no value
        depends on this, nor on the number of threads.

        Args:
            labels: of every image, on its features' grid.
        """
        used = labelled_images(labels)
        if sum(labels[index].numel() for index in used) * self.dim * 4 <= self._budget_bytes:
            encoder, title = encoder_of(self._vision, self._vision.encode), "train: patch features"
            if encoder.images_at_once > 1:
                self._together(title, encoder, used)
            else:
                self._over_threads(title, lambda k: self(used[k]), len(used))

    def _together(self, title: str, encoder: Encoder[Tensor], used: Sequence[int]) -> None:
        """Encode several images at once while threads read and resize the next."""
        count = encoder.images_at_once
        images = ahead(used, lambda index: encoder.prepare(self._read(index)), count)
        with contextlib.closing(images), progress(title, total=len(used)) as bar:
            while some := list(islice(images, count)):
                found = encoder.encode([image for _, image in some])
                for (index, _), features in zip(some, found, strict=True):
                    self._kept(index, features)
                    bar.update()

    def _over_threads(
        self, title: str, one: Callable[[int], Tensor], count: int | None = None
    ) -> list[Tensor]:
        """What `one` says of 0, 1, ..., in this order, over `runner.workers` threads."""
        count = len(self._names) if count is None else count
        with (
            ThreadPoolExecutor(
                self._workspace.params.runner.workers, "features",
                torch.set_num_threads, (torch.get_num_threads(),),
            ) as threads,
            progress(title, total=count) as bar,
        ):  # fmt: skip
            found = []
            try:
                for answer in threads.map(one, range(count)):
                    found.append(answer)
                    bar.update()
            except BaseException:  # Ctrl-C, too: the images not begun are left out
                threads.shutdown(wait=False, cancel_futures=True)
                raise
            return found
