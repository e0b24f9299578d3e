import numpy as np
import pytest
import torch

from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.types import IGNORE


def plain_loop(predicted: np.ndarray, target: np.ndarray, classes: int) -> list[float]:
    """IoU per class, pixel by pixel; nan for an empty union."""
    values = []
    for k in range(classes):
        both = either = 0
        for p, t in zip(predicted.ravel().tolist(), target.ravel().tolist(), strict=True):
            if t == IGNORE:
                continue
            both += p == k and t == k
            either += p == k or t == k
        values.append(both / either if either else float("nan"))
    return values


@pytest.mark.parametrize("seed", range(5))
def test_iou_equals_a_plain_loop(seed: int) -> None:
    """Class 3 is only predicted, class 4 only true, class 5 absent; both sides hold IGNORE."""
    rng = np.random.default_rng(seed)
    confusion = ConfusionMatrix(6)
    shown = []
    for _ in range(3):
        predicted = rng.choice([0, 1, 2, 3, IGNORE], (13, 7)).astype(np.uint8)
        target = rng.choice([0, 1, 2, 4, IGNORE], (13, 7)).astype(np.int32)
        confusion.update(predicted, target)
        shown.append((predicted, target))
    predicted, target = (np.concatenate(part) for part in zip(*shown, strict=True))
    expected = plain_loop(predicted, target, 6)
    assert np.allclose(confusion.iou(), expected, atol=1e-9, equal_nan=True)
    assert confusion.iou()[3] == confusion.iou()[4] == 0
    assert np.isnan(confusion.iou()[5])
    assert abs(confusion.miou() - np.nanmean(expected)) < 1e-9
    counted = target != IGNORE
    accuracy = (predicted == target)[counted].sum() / counted.sum()
    assert abs(confusion.pixel_accuracy() - accuracy) < 1e-9
    assert confusion.matrix.sum() == counted.sum()


def test_an_ignored_prediction_is_a_miss_and_no_false_alarm() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([0, IGNORE, 1]), np.array([0, 0, 1]))
    assert confusion.iou().tolist() == [0.5, 1.0]
    assert confusion.matrix.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_torch_and_numpy_count_alike() -> None:
    predicted, target = np.array([[0, 1, 2]]), np.array([[0, 2, 2]])
    ours, theirs = ConfusionMatrix(3), ConfusionMatrix(3)
    ours.update(predicted, target)
    theirs.update(torch.from_numpy(predicted), torch.from_numpy(target))
    assert np.array_equal(ours.matrix, theirs.matrix)


def test_nothing_counted_is_nan() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.zeros((2, 2), int), np.full((2, 2), IGNORE))
    assert np.isnan(confusion.miou())
    assert np.isnan(confusion.pixel_accuracy())


@pytest.mark.parametrize(
    ("predicted", "target", "says"),
    [([0, 1], [0], "shape"), ([3], [0], "predicted"), ([0], [3], "target"), ([0], [-1], "target"),
     ([0.5], [0], "integers")],
)  # fmt: skip
def test_bad_labels_are_named(predicted: list[int], target: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ConfusionMatrix(3).update(np.array(predicted), np.array(target))


def test_more_classes_than_ignore_leaves_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="IGNORE"):
        ConfusionMatrix(256)
