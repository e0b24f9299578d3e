"""What stage 2 is trained on: the labels of every image's patches, and the frozen features."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from fmbseg.align.batches import View, labelled_images
from fmbseg.align.ranks import ALONE, Ranks
from fmbseg.models.encoder import encoder_of
from fmbseg.models.protocols import VisionModel
from fmbseg.progress import progress
from fmbseg.pseudo.patch_labels import patch_labels
from fmbseg.steps.code import code_of
from fmbseg.steps.feature_files import FeatureFiles
from fmbseg.steps.foundation_models import models_params
from fmbseg.steps.label_maps import LabelMaps
from fmbseg.steps.shards import shards
from fmbseg.steps.windows import draw_windows
from fmbseg.steps.workspace import Workspace
from fmbseg.types import IGNORE, Image


class Features:
    """Frozen patch features by image index, kept as `train.feature_cache` says.

    `memory`: float32, up to the budget; beyond it they are computed anew. `disk`: float16 files of
    whole shards, up to the budget. `off`: none is kept. Several threads may ask at once.

    Attributes:
        dim: length of a patch's features.
    """

    def __init__(self, workspace: Workspace, names: list[str], vision: VisionModel) -> None:
        """Nothing is computed until it is asked for."""
        self._vision, self.dim = vision, vision.dim
        self._workspace, self._names = workspace, names
        p = workspace.params.train
        budget_bytes = p.feature_cache_gb * 1e9
        self._memory_bytes = budget_bytes if p.feature_cache == "memory" else 0.0
        self._cached: dict[int, Tensor] = {}
        self._caching = threading.Lock()
        self._files: FeatureFiles | None = None
        self._kept_by: Sequence[int] | None = None
        if p.feature_cache == "memory":
            self._kept_by = range(len(names))
        if p.feature_cache == "disk":
            place = {
                name: number
                for number, shard in enumerate(shards(workspace).values()) for name in shard
            }  # fmt: skip
            self._kept_by = [place[name] for name in names]
            self._files = FeatureFiles(
                workspace.root / ".scratch" / "features", _made_with(workspace), self.dim,
                budget_bytes,
            )  # fmt: skip

    def __call__(self, index: int) -> Float[Tensor, "rows cols dim"]:
        """The features of one image, float32."""
        if index in self._cached:
            return self._cached[index]
        on_disk = self._files.read(index) if self._files else None
        if on_disk is not None:
            return on_disk
        return self._kept(index, self._vision.encode(self._read(index)))

    def _kept(self, index: int, features: Tensor) -> Tensor:
        with self._caching:
            if features.nbytes <= self._memory_bytes and index not in self._cached:
                self._cached[index] = features
                self._memory_bytes -= features.nbytes
        return features

    @property
    def spare_bytes(self) -> float:
        """What the features kept in memory so far leave of the budget."""
        return self._memory_bytes

    def patch_labels(self, maps: LabelMaps) -> list[UInt8[Tensor, "_rows _cols"]]:
        """Every image's patch labels on its features' grid, which follows from its size."""

        def of(index: int) -> Tensor:
            return self._on_grid(maps.map_of(index))

        return list(self._over_threads("train: patch labels", of, range(len(self._names))))

    def view(self, maps: LabelMaps, index: int, epoch: int) -> View:
        """Another part of a picture in every epoch, mirrored or not, as `train` wants it.

        It follows from seed, image and epoch alone. A part without any label is drawn anew; after
        a few of them the whole picture is taken.
        """
        p, label_map = self._workspace.params.train, maps.map_of(index)
        rng = np.random.default_rng([p.seed, epoch, index, 1])
        height, width = label_map.shape
        for window in draw_windows(rng, (height, width), p.flip, p.crop_min_scale):
            labels = self._on_grid(window.of(label_map))
            if (labels != IGNORE).any():
                break

        def read() -> Tensor:
            return self._vision.encode(window.of(self._read(index)))

        return labels, read

    def deal(self, images: Sequence[int], count: int) -> list[list[int]]:
        """The images of a batch to those that each process reads.

        Where all features are kept, an image always goes to the same process, which alone computes
        and keeps them.
        """
        if self._kept_by is None:
            return [list(images[rank::count]) for rank in range(count)]
        return [[k for k in images if self._kept_by[k] % count == rank] for rank in range(count)]

    def prepare(
        self, labels: Sequence[Integer[Tensor, "_rows _cols"]], ranks: Ranks = ALONE
    ) -> None:
        """Compute the features of labelled images before the training.

        In memory those of all images, if all fit. If not, none is computed before it is asked for:
        most would not be kept. On the disk, those of the shards that fit and are not there yet. On
        a processor no value depends on this, nor on the number of threads.

        Args:
            labels: of every image, on its features' grid.
            ranks: the processes that train together; each prepares its own share.
        """
        used = labelled_images(labels)
        size = sum(labels[index].numel() for index in used) * self.dim * 4
        if self._files is None and size > self._memory_bytes * ranks.count:
            self._kept_by = None  # most are computed anew, so shares of equal size count more
            return
        own = self.deal(used, ranks.count)[ranks.rank]
        if self._files is not None:
            self._fill(self._files, labels, used, set(own))
        else:
            for index, features in zip(own, self._encoded(own), strict=True):
                self._kept(index, features)

    def _fill(
        self, files: FeatureFiles, labels: Sequence[Tensor], used: list[int], own: set[int]
    ) -> None:
        """Map the files of the shards whose images are `own`, and write those that are missing."""
        at = {self._names[index]: index for index in used}
        images = self._workspace.listing().images
        missing = []
        for names in shards(self._workspace).values():
            shard = [at[name] for name in names if name in at]
            grids = [(labels[k].shape[0], labels[k].shape[1]) for k in shard]
            file = files.file_of([images[self._names[k]] for k in shard], grids)
            if file is not None and own & set(shard) and not files.open(file, shard, grids):
                missing.append((file, shard, grids))
        files.remove_others()
        wanted = [index for _, shard, _ in missing for index in shard]
        encoded = self._encoded(wanted)
        for file, shard, grids in missing:
            files.write(file, list(islice(encoded, len(shard))))
            files.open(file, shard, grids)

    def _on_grid(self, label_map: UInt8[np.ndarray, "height width"]) -> Tensor:
        height, width = label_map.shape
        return patch_labels(label_map, self._vision.grid_hw((height, width)))

    def _read(self, index: int) -> Image:
        return self._workspace.read_image(self._names[index])

    def _encoded(self, indices: Sequence[int]) -> Iterator[Float[Tensor, "_rows _cols dim"]]:
        """Features of images in order: over threads, or several at once where the encoder can.

        Threads then read and resize the next ones.
        """
        encoder, title = encoder_of(self._vision, self._vision.encode), "train: patch features"
        if encoder.images_at_once == 1:
            yield from self._over_threads(
                title, lambda index: self._vision.encode(self._read(index)), indices
            )
            return
        with progress(title, total=len(indices)) as bar:
            for _, features in encoder.over(indices, self._read):
                bar.update()
                yield features

    def _over_threads(
        self, title: str, one: Callable[[int], Tensor], indices: Sequence[int]
    ) -> Iterator[Tensor]:
        """What `one` says of the indices, in their order, over `runner.workers` threads."""
        with (
            ThreadPoolExecutor(
                self._workspace.params.runner.workers, "features",
                torch.set_num_threads, (torch.get_num_threads(),),
            ) as threads,
            progress(title, total=len(indices)) as bar,
        ):  # fmt: skip
            try:
                for answer in threads.map(one, indices):
                    bar.update()
                    yield answer
            except BaseException:  # Ctrl-C, too: the images not begun are left out
                threads.shutdown(wait=False, cancel_futures=True)
                raise


def _made_with(workspace: Workspace) -> object:
    """What features follow from besides the images."""
    code = code_of("train")
    p = workspace.params
    return {
        "models": models_params(workspace, "vision"),
        "params": p.model_dump(include={"threads", "runtime"}),
        "short_side_px": p.train.input_short_side_px,
        "code": {k: sha for k, sha in code.files.items() if k.startswith(("models/", "store/"))},
        "packages": code.packages,
    }
