"""Which classes a method takes for which others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were answered with another.

    Attributes:
        truth: name of their class.
        predicted: name of the answer, or NO_ANSWER.
        share: of all labelled pixels of the class, 0 to 1.
        pixels: their number.
    """

    truth: str
    predicted: str
    share: float
    pixels: int


def most_confused(
    matrix: Int64[np.ndarray, "category category+1"], class_names: Sequence[str], limit: int
) -> tuple[Confusion, ...]:
    """The pairs that lose the largest share of a class, largest first.

    Shares, not pixels, decide: mIoU weighs a small class as much as a large one. Among equal
    shares the pair with more pixels comes first.

    Args:
        matrix: pixels by true class (row) and predicted class (column; the last is no answer).
        class_names: one a row.
        limit: longest answer.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    shares = wrong / np.maximum(matrix.sum(1, keepdims=True), 1)
    order = np.lexsort((-wrong.ravel(), -shares.ravel()))[:limit]
    names = (*class_names, NO_ANSWER)
    rows, columns = np.unravel_index(order, wrong.shape)
    return tuple(
        Confusion(names[i], names[j], float(shares[i, j]), int(wrong[i, j]))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if wrong[i, j]
    )
