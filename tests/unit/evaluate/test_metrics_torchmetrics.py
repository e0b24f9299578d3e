"""The confusion matrix against a plain double loop and against torchmetrics."""

import numpy as np
import pytest
import torch

from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.types import IGNORE

classification = pytest.importorskip("torchmetrics.functional.classification")

CLASSES = 9


def pictures(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth never holds 3 or 8, the prediction never 5 or 8; IGNORE is in the truth alone."""
    rng = np.random.default_rng(seed)
    found, true = [0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 4, 5, 6, 7, IGNORE]
    sizes = [(11, 7), (1, 13), (6, 20)]
    return [
        (rng.choice(found, size).astype(np.uint8), rng.choice(true, size).astype(np.uint8))
        for size in sizes
    ]


def double_loop(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[list[int]]:
    counts = [[0] * CLASSES for _ in range(CLASSES)]
    for predicted, target in pairs:
        for row in range(target.shape[0]):
            for column in range(target.shape[1]):
                if target[row, column] != IGNORE:
                    counts[target[row, column]][predicted[row, column]] += 1
    return counts


def iou_of_counts(counts: list[list[int]]) -> list[float]:
    values = []
    for k in range(CLASSES):
        union = sum(counts[k]) + sum(row[k] for row in counts) - counts[k][k]
        values.append(counts[k][k] / union if union else float("nan"))
    return values


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_miou_equal_a_double_loop_and_torchmetrics(seed: int):
    pairs = pictures(seed)
    ours = ConfusionMatrix(CLASSES)
    for answer, labels in pairs:
        ours.update(answer, labels)
    predicted, target = (
        torch.from_numpy(np.concatenate([part.ravel() for part in parts]).astype(np.int64))
        for parts in zip(*pairs, strict=True)
    )
    theirs = classification.multiclass_confusion_matrix(
        predicted, target, CLASSES, ignore_index=IGNORE
    )
    looped = double_loop(pairs)
    assert ours.matrix[:, :CLASSES].tolist() == looped == theirs.tolist()
    assert ours.matrix[:, CLASSES].sum() == 0

    expected = iou_of_counts(looped)
    np.testing.assert_allclose(ours.iou(), expected, rtol=0, atol=1e-9)
    assert abs(ours.miou() - np.nanmean(expected)) < 1e-9
    exact = theirs.double()
    union = exact.sum(0) + exact.sum(1) - exact.diag()
    theirs_miou = (exact.diag() / union)[union > 0].mean()
    assert abs(ours.miou() - float(theirs_miou)) < 1e-9
    macro = classification.multiclass_jaccard_index(
        predicted, target, CLASSES, average="macro", ignore_index=IGNORE
    )
    assert ours.miou() == pytest.approx(float(macro), abs=1e-6)  # torchmetrics divides in float32


def test_a_class_only_predicted_counts_as_zero_and_an_absent_one_not_at_all():
    ours = ConfusionMatrix(CLASSES)
    for predicted, target in pictures(0):
        ours.update(predicted, target)
    values = ours.iou()
    assert values[3] == values[5] == 0
    assert np.flatnonzero(np.isnan(values)).tolist() == [8]
    assert ours.miou() == pytest.approx(values[:8].sum() / 8, abs=1e-12)


def test_a_class_predicted_on_ignored_pixels_alone_stays_absent():
    ours = ConfusionMatrix(3)
    ours.update(np.array([[0, 2, 1]]), np.array([[0, IGNORE, 1]]))
    assert np.isnan(ours.iou()[2])
    assert ours.miou() == 1
