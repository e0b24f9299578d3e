"""Random parts of pictures."""

import numpy as np
import pytest

from fmbseg.steps.windows import Window, draw_windows


def test_a_part_is_cut_and_mirrored_alike_in_picture_and_labels():
    labels = np.arange(12).reshape(3, 4)
    picture = np.stack([labels] * 3, axis=2)
    window = Window(slice(1, 3), slice(0, 3), mirrored=True)
    assert window.of(labels).tolist() == [[6, 5, 4], [10, 9, 8]]
    assert (window.of(picture) == window.of(labels)[..., None]).all()


@pytest.mark.parametrize(("flip", "least"), [(False, 0.5), (True, 1.0), (True, 0.25)])
def test_parts_are_of_the_wanted_size_and_repeat(flip: bool, least: float):
    drawn = [list(draw_windows(np.random.default_rng(k), (40, 80), flip, least)) for k in range(99)]
    again = [list(draw_windows(np.random.default_rng(k), (40, 80), flip, least)) for k in range(99)]
    assert drawn == again
    scales = set()
    for windows in drawn:
        for window in windows:
            high, wide = window.rows.stop - window.rows.start, window.cols.stop - window.cols.start
            assert 0 <= window.rows.start <= window.rows.stop <= 40
            assert 0 <= window.cols.start <= window.cols.stop <= 80
            assert least * 40 <= high + 0.5
            assert abs(wide - 2 * high) <= 1, "the picture's own shape"
            scales.add(high)
        assert (windows[-1].rows, windows[-1].cols) == (slice(0, 40), slice(0, 80)), "all of it"
    mirrored = np.mean([window.mirrored for windows in drawn for window in windows])
    assert 0.4 < mirrored < 0.6 if flip else mirrored == 0
    assert (len(scales) > 10) == (least < 1)
