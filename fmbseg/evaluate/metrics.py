"""The metrics of label maps against labels: METRICS lists all of them.

A new metric is a line of METRICS, with a file beside this one for what it counts. `metrics.json`,
the report, the tables, DVC and MLflow follow the list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float64, Int64, Integer
from numpy.typing import ArrayLike

from fmbseg.image_size import row_bands
from fmbseg.types import IGNORE

_LABELS = IGNORE + 1
Labels = Integer[np.ndarray, "height width"]
Counts = Int64[np.ndarray, "..."]


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column).

    A pixel whose truth is IGNORE is not counted. A pixel whose *prediction* is IGNORE is a miss of
    its true class and a false alarm of none: it stands in the extra last column.

    Attributes:
        num_classes: number of classes, at most 255.
        matrix: the counts, [category, category + 1].
    """

    def __init__(self, num_classes: int) -> None:
        """Start with no pixel.

        Raises:
            ValueError: no class, or so many that IGNORE would be one of them.
        """
        if not 1 <= num_classes <= IGNORE:
            raise ValueError(
                f"num_classes: found {num_classes}; wanted 1 to {IGNORE} ({IGNORE} is IGNORE)"
            )
        self.num_classes = num_classes
        self.matrix: Int64[np.ndarray, "category category+1"] = np.zeros(
            (num_classes, num_classes + 1), np.int64
        )

    @classmethod
    def of(cls, matrix: Int64[np.ndarray, "category category+1"]) -> Self:
        """A matrix that was counted before."""
        made = cls(len(matrix))
        made.matrix = matrix
        return made

    def update(self, predicted: ArrayLike, target: ArrayLike) -> None:
        """Count one image, or any number of pixels.

        Args:
            predicted: class index per pixel, or IGNORE for no answer.
            target: true class index per pixel, same shape, or IGNORE.

        Raises:
            ValueError: shapes differ, or a label is neither a class nor IGNORE.
        """
        found, truth = _integers(predicted, "predicted"), _integers(target, "target")
        if found.shape != truth.shape:
            raise ValueError(f"predicted has shape {found.shape}, target {truth.shape}")
        if found.dtype != np.uint8 or truth.dtype != np.uint8:
            for name, labels in (("target", truth), ("predicted", found[truth != IGNORE])):
                if labels.size and (labels.min() < 0 or labels.max() > IGNORE):
                    raise self._others(name, labels)
            found, truth = found.astype(np.uint8), truth.astype(np.uint8)
        pairs = truth.astype(np.uint16).ravel()  # both labels of a pixel in one number, in place
        pairs <<= 8
        pairs |= found.astype(np.uint16).ravel()  # two types would take three times as long
        cells = np.bincount(pairs, minlength=_LABELS**2).reshape(_LABELS, _LABELS)[:IGNORE]
        if cells[self.num_classes :].any():
            raise self._others("target", truth[truth != IGNORE])
        if cells[:, self.num_classes : IGNORE].any():
            raise self._others("predicted", found[(truth != IGNORE) & (found != IGNORE)])
        self.matrix[:, :-1] += cells[: self.num_classes, : self.num_classes]
        self.matrix[:, -1] += cells[: self.num_classes, IGNORE]

    def _others(self, name: str, labels: Integer[np.ndarray, "..."]) -> ValueError:
        return ValueError(
            f"{name}: found labels {labels.min()} to {labels.max()}; wanted 0 to "
            f"{self.num_classes - 1} or IGNORE ({IGNORE})"
        )

    def iou(self) -> Float64[np.ndarray, " category"]:
        """Intersection over union per class, 0 to 1; nan where neither truth nor prediction is."""
        hits = np.diagonal(self.matrix).astype(np.float64)
        union = self.matrix.sum(1) + self.matrix[:, : self.num_classes].sum(0) - hits
        values = np.full(self.num_classes, np.nan)
        np.divide(hits, union, out=values, where=union > 0)
        return values

    def miou(self) -> float:
        """Mean IoU over the classes with a non-empty union; a class only predicted counts as 0.

        The rule of mmsegmentation's nanmean. nan when no pixel was counted.
        """
        values = self.iou()
        present = values[~np.isnan(values)]
        return float(present.mean()) if present.size else float("nan")

    def pixel_accuracy(self) -> float:
        """Correct pixels over counted pixels, 0 to 1; nan when no pixel was counted."""
        pixels = int(self.matrix.sum())
        return float(np.trace(self.matrix) / pixels) if pixels else float("nan")


def pixels_by_class(
    predicted: Labels, truth: Labels, num_classes: int
) -> Int64[np.ndarray, "category category+1"]:
    """The confusion matrix of one image, some rows at a time."""
    counted = ConfusionMatrix(num_classes)
    for rows in row_bands((max(len(predicted), len(truth)), truth.shape[1])):
        counted.update(predicted[rows], truth[rows])
    return counted.matrix


@dataclass(frozen=True)
class Metric:
    """A figure of a method on a data set, made of counts that add up over images.

    Attributes:
        name: in metrics.json, in `dvc metrics` and in MLflow.
        title: heading of its column in the report and in tables.
        count: (predicted, truth, number of classes) of one image to its counts. Both label maps
            hold class indices or IGNORE: no answer, or a pixel that is not scored.
        figure: the sum of the counts to the figure, 0 to 1; nan only where no pixel is
            labelled.
    """

    name: str
    title: str
    count: Callable[[Labels, Labels, int], Counts]
    figure: Callable[[Counts], float]


METRICS = (
    Metric("miou", "mIoU", pixels_by_class, lambda sums: ConfusionMatrix.of(sums).miou()),
    Metric(
        "pixel_accuracy", "pixel accuracy", pixels_by_class,
        lambda sums: ConfusionMatrix.of(sums).pixel_accuracy(),
    ),
)  # fmt: skip
"""Every metric that is computed; the first one ranks methods, images and models."""


class Tally:
    """What the metrics count, summed over any number of images.

    Attributes:
        sums: name of a metric's `count` to the sum of its counts.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Counts] = {}

    @classmethod
    def of_image(cls, predicted: Labels, truth: Labels, num_classes: int) -> Self:
        """Count one image; metrics with the same `count` share it."""
        made = cls()
        for count in dict.fromkeys(metric.count for metric in METRICS):
            made.sums[count.__name__] = count(predicted, truth, num_classes)
        return made

    def add(self, other: "Tally") -> None:
        """Add the counts of further images."""
        for name, counts in other.sums.items():
            self.sums[name] = self.sums[name] + counts if name in self.sums else counts

    def confusion(self) -> ConfusionMatrix:
        """The pixels by true and predicted class."""
        return ConfusionMatrix.of(self.sums[pixels_by_class.__name__])

    def figures(self) -> dict[str, float]:
        """Name of every metric to its figure."""
        return {one.name: float(one.figure(self.sums[one.count.__name__])) for one in METRICS}


def _integers(labels: ArrayLike, name: str) -> Integer[np.ndarray, "..."]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: found {array.dtype} labels; wanted integers")
    return array
