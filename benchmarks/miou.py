"""Counting pixels by class: ours against torchmetrics and a bare bincount, on one label map."""

import sys

import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from benchmarks.common import Table, in_turn, pin_threads
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.types import IGNORE

CLASSES, SIZE_HW, ROUNDS = 171, (480, 640), 51


def main() -> int:
    """Print a table: processor seconds of one image, 171 classes, 640 x 480 px."""
    pin_threads()
    drawn = np.random.default_rng(0)
    truth, found = (drawn.integers(0, CLASSES, SIZE_HW, dtype=np.uint8) for _ in range(2))
    truth[:20] = IGNORE
    ours = ConfusionMatrix(CLASSES)
    theirs = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE)
    pairs = (truth.astype(np.int64) * (CLASSES + 1) + found).ravel()
    tensors = torch.from_numpy(found.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    timed = in_turn({
        "ours": lambda: ours.update(found, truth),
        "torchmetrics": lambda: theirs.update(*tensors),
        "bincount": lambda: np.bincount(pairs, minlength=256 * (CLASSES + 1)),
    }, ROUNDS)  # fmt: skip
    table = Table()
    table.row(
        "one image; stock torchmetrics, floor a bare bincount",
        timed["ours"], timed["torchmetrics"], timed["bincount"], times_stock=10, times_floor=1.5,
        equal=bool((ours.matrix[:, :-1] == theirs.compute().numpy()).all()),
    )  # fmt: skip
    return table.exit_code


if __name__ == "__main__":
    sys.exit(main())
