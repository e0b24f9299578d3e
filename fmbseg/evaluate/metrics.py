"""Mean IoU and pixel accuracy from one confusion matrix."""

import numpy as np
from jaxtyping import Float64, Int64, Integer
from numpy.typing import ArrayLike
from torch import Tensor

from fmbseg.types import IGNORE


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

    def update(self, predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> None:
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
        counted = truth != IGNORE
        found, truth = found[counted].astype(np.int64), truth[counted].astype(np.int64)
        silent = found == IGNORE
        for name, labels in (("target", truth), ("predicted", found[~silent])):
            if labels.size and (labels.min() < 0 or labels.max() >= self.num_classes):
                raise ValueError(
                    f"{name}: found labels {labels.min()} to {labels.max()}; wanted 0 to "
                    f"{self.num_classes - 1} or IGNORE ({IGNORE})"
                )
        found[silent] = self.num_classes
        cells = np.bincount(truth * (self.num_classes + 1) + found, minlength=self.matrix.size)
        self.matrix += cells.reshape(self.matrix.shape)

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


def _integers(labels: ArrayLike | Tensor, name: str) -> Integer[np.ndarray, "..."]:
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: found {array.dtype} labels; wanted integers")
    return array
