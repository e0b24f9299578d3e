"""Counting pixels by class: ours against torchmetrics and a bare bincount, on one label map."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.types import IGNORE

CLASSES, SIZE_HW, ROUNDS = 171, (480, 640), 15


def main() -> None:
    """Print a table: processor milliseconds an image and ratios, medians of `ROUNDS`."""
    torch.set_num_threads(1)
    drawn = np.random.default_rng(0)
    truth, found = (drawn.integers(0, CLASSES, SIZE_HW, dtype=np.uint8) for _ in range(2))
    truth[:20] = IGNORE
    ours = ConfusionMatrix(CLASSES)
    theirs = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE)
    pairs = (truth.astype(np.int64) * (CLASSES + 1) + found).ravel()
    tensors = torch.from_numpy(found.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: ours.update(found, truth),
        "torchmetrics": lambda: theirs.update(*tensors),
        "bare bincount": lambda: np.bincount(pairs, minlength=256 * (CLASSES + 1)),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(ROUNDS + 1):
        for way, call in ways.items():
            began = time.process_time()
            call()
            if turn:
                seconds[way].append(time.process_time() - began)
    assert (ours.matrix[:, :-1] == theirs.compute().numpy()).all()
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print("| way | ms an image | spread | times ours |")
    print("|---|---|---|---|")
    for way, times in seconds.items():
        print(
            f"| {way} | {1e3 * medians[way]:.2f} | {1e3 * min(times):.2f} to "
            f"{1e3 * max(times):.2f} | {medians[way] / medians['ours']:.2f} |"
        )


if __name__ == "__main__":
    main()
