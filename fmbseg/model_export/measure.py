"""An exported file beside others on labelled images: mIoU, speed, and how often they agree."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from PIL import Image as PilImage

from fmbseg.datasets.folder import FolderDataset
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.types import IGNORE, Image
from fmbseg.vocabulary import Vocabulary

Labels = Integer[np.ndarray, "height width"]
MAX_IMAGES = 200
"""More tell little more."""


def measured(
    ways: Mapping[str, Callable[[Image], Labels]],
    folder: Path,
    classes: Vocabulary,
    ignore_label: int = IGNORE,
) -> dict[str, dict[str, Any]]:
    """Every way on the same images, which take turns.

    Args:
        ways: name to what labels an image; the first one is what the others are compared with.
        folder: holds `images/` and `labels/`, label files whose numbers are indices into the
            classes.
        classes: of the labels.
        ignore_label: number in the label files that means none.

    Returns:
        For each way `miou`, `seconds` an image (median, wall clock), `agrees` (share of the pixels
        that have the first way's label) and `images`.

    Raises:
        DatasetError: no such folders.
    """
    data = FolderDataset(
        folder / "images", "", class_names=classes.names, labels=folder / "labels",
        ignore_label=ignore_label,
    )  # fmt: skip
    counts = {way: ConfusionMatrix(len(classes)) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    equal, pixels, images = dict.fromkeys(ways, 0), 0, min(len(data), MAX_IMAGES)
    for index in range(images):
        sample = data[index]
        answers: dict[str, Labels] = {}
        for way in list(ways)[:: -1 if index % 2 else 1]:
            began = time.perf_counter()
            answers[way] = ways[way](sample.image)
            seconds[way].append(time.perf_counter() - began)
        first = answers[next(iter(ways))]
        pixels += first.size
        for way, labels in answers.items():
            equal[way] += int((labels == first).sum())
            if sample.target is not None:
                counts[way].update(labels.astype(np.int64), sample.target)
    return {
        way: {
            "miou": round(counts[way].miou(), 4),
            "seconds": round(statistics.median(seconds[way]), 4),
            "agrees": round(equal[way] / pixels, 5),
            "images": images,
        }
        for way in ways
    }


def drawn(size_hw: tuple[int, int], seed: int) -> Image:
    """A picture of soft blobs of all colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    soft = PilImage.fromarray(coarse).resize(size_hw[::-1], PilImage.Resampling.BICUBIC)
    return np.asarray(soft)
