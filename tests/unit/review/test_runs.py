"""Run lengths as the page has them stand for the same pixels as ours."""

import numpy as np
import pytest

from fmbseg.review.runs import rle_of, runs_of
from fmbseg.store import decode_rle, encode_rles


def masks():
    random = np.random.default_rng(0)
    found = random.random((5, 7, 4)) < 0.5
    return np.concatenate([found, np.ones((1, 7, 4), bool), np.zeros((1, 7, 4), bool)])


def test_runs_go_down_the_columns_from_background():
    for mask, runs in zip(masks(), runs_of(encode_rles(masks())), strict=True):
        drawn = [i % 2 for i, length in enumerate(runs) for _ in range(length)]
        assert drawn == [int(mask[y, x]) for x in range(4) for y in range(7)]


def test_runs_give_the_same_bytes_again_also_with_empty_runs_between():
    rles = encode_rles(masks())
    for rle, runs in zip(rles, runs_of(rles), strict=True):
        assert rle_of(runs, (7, 4)) == rle
        cut = [part for length in runs for part in (length // 2, 0, length - length // 2)]
        assert rle_of([*cut, 0, 0], (7, 4)) == rle
        assert (decode_rle(rle_of(cut, (7, 4))) == decode_rle(rle)).all()


@pytest.mark.parametrize("runs", [[], [27], [29], [-1, 29], [30, -2], [2**31, 2**31]])
def test_runs_that_are_not_the_images_pixels_are_refused(runs):
    with pytest.raises(ValueError, match="wanted 7 x 4 px"):
        rle_of(runs, (7, 4))
