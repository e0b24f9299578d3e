import numpy as np

from fmbseg.methods.map_correction import corrected, id_map, relabelled
from fmbseg.store import encode_rles
from fmbseg.types import IGNORE, LabelMap, SamMask


def sam_masks(*pixels):
    return [
        SamMask(rle, int(one.sum()), (0, 0, 1, 1), 0.9, 0.9, ((0.0, 0.0),))
        for one, rle in zip(pixels, encode_rles(np.stack(pixels)), strict=True)
    ]


def slow_correction(labels, ids):
    found = labels.copy()
    for number in set(ids.ravel().tolist()) - {0}:
        votes: dict[int, int] = {}
        for y, x in zip(*np.nonzero(ids == number), strict=True):
            votes[int(labels[y, x])] = votes.get(int(labels[y, x]), 0) + 1
        best = max(votes.values())
        found[ids == number] = min(label for label, count in votes.items() if count == best)
    return found


def test_the_largest_mask_is_painted_last():
    small, large = np.zeros((2, 5, 7), bool)
    small[1:3, 1:3], large[2:, 2:] = True, True
    ids = id_map(sam_masks(large, small), (5, 7))
    wanted = np.where(large, 2, np.where(small, 1, 0))
    np.testing.assert_array_equal(ids, wanted)
    assert not id_map([], (5, 7)).any()


def test_every_mask_takes_its_pixels_usual_class_and_the_rest_stays(monkeypatch):
    monkeypatch.setattr("fmbseg.image_size._PIXELS_AT_ONCE", 20)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (9, 11)).astype(np.int32)
    labels[rng.random((9, 11)) < 0.1] = IGNORE
    ids = rng.integers(0, 30, (9, 11)).astype(np.int32)
    before = labels.copy()
    found = corrected(labels, ids)
    np.testing.assert_array_equal(found, slow_correction(labels, ids))
    np.testing.assert_array_equal(labels, before)
    assert (found != labels).any()
    assert found.dtype == labels.dtype


def test_the_best_similarity_stays_and_belongs_to_the_new_class():
    rng = np.random.default_rng(1)
    similarities = rng.random((3, 4, 5)).astype(np.float32)
    old = similarities.argmax(0).astype(np.int32)
    new = rng.integers(0, 3, (4, 5)).astype(np.int32)
    found = relabelled(LabelMap(old, ("a", "b", "c"), similarities), new)
    np.testing.assert_array_equal(found.similarities.argmax(0), new)
    np.testing.assert_array_equal(found.similarities.max(0), similarities.max(0))
    np.testing.assert_array_equal(np.sort(found.similarities, 0), np.sort(similarities, 0))
    assert relabelled(LabelMap(old, ("a", "b", "c")), new).similarities is None
