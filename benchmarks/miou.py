"""Counting pixels by class: ours against torchmetrics, and against a bare bincount.

Each in turns of its own: torchmetrics makes 19 MB on its way, and who comes next would pay for
what that drives out of the processor's cache.
"""

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
    table, ways = Table(), {"ours": lambda: ours.update(found, truth)}
    timed = in_turn({**ways, "torchmetrics": lambda: theirs.update(*tensors)}, ROUNDS)
    table.row(
        "one image; stock torchmetrics", timed["ours"], timed["torchmetrics"], times_stock=10,
        equal=bool((ours.matrix[:, :-1] == theirs.compute().numpy()).all()),
    )  # fmt: skip
    bare = np.bincount(pairs, minlength=256 * (CLASSES + 1)).reshape(256, CLASSES + 1)
    began = ours.matrix.copy()
    timed = in_turn({**ways, "bincount": lambda: np.bincount(pairs, minlength=bare.size)}, ROUNDS)
    counted = (ours.matrix - began)[:, :-1] / (ROUNDS + 1)
    table.row(
        "one image; floor a bare bincount", timed["ours"], floor=timed["bincount"], times_floor=1.5,
        equal=bool((counted == bare[:CLASSES, :CLASSES]).all()),
    )  # fmt: skip
    return table.exit_code


if __name__ == "__main__":
    sys.exit(main())
