"""Confidence against labels."""

import numpy as np
import pytest

from fmbseg.evaluate.calibration import Counted, Reliability


def drawn(truth, seed: int = 0, count: int = 40_000) -> Counted:
    """Pixels whose labels are right as often as `truth` says of their confidence."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(count).round(3)
    return Counted.of(confidence, rng.random(count) < truth(confidence))


def test_honest_confidence_has_no_error_and_boasting_has_what_it_boasts() -> None:
    assert Reliability.of([drawn(lambda c: c)]).error() < 0.02
    assert Reliability.of([drawn(lambda c: c * 0.5)]).error() == pytest.approx(0.25, abs=0.01)
    assert Reliability().error() == 0


def test_the_curve_rises_and_makes_confidence_honest_on_other_images() -> None:
    curve = Reliability.of([drawn(np.square)]).curve()
    assert curve is not None
    assert (np.diff(curve.accuracy) >= 0).all()
    assert curve.of(np.array([0.5]))[0] == pytest.approx(0.25, abs=0.03)
    held = drawn(np.square, seed=1)
    before, after = Reliability.of([held]), Reliability.of([held.through(curve)])
    assert before.error() > 0.15
    assert after.error() < 0.02
    assert sum(row["pixels"] for row in after.table()) == held.pixels.sum() == 40_000


def test_without_a_pixel_there_is_no_curve() -> None:
    assert Reliability().curve() is None


def test_pixels_are_counted_by_confidence() -> None:
    one = Counted.of(np.array([0.5, 1.0, 0.5, 0.5]), np.array([True, True, False, True]))
    assert one.confidence.tolist() == [0.5, 1.0]
    assert one.pixels.tolist() == [3, 1]
    assert one.right.tolist() == [2, 1]
