"""The simulated reviewer sees masks alone, and tells their classes by the truth."""

from pathlib import Path

import numpy as np

from fmbseg.steps.review import queue_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store import decode_rle
from studies import corrections as study


def test_each_mask_gets_the_class_that_most_of_it_has_or_goes(small_run: Path):
    workspace = Workspace.open(small_run)
    image = study.chosen(workspace, "queue", 0)[0]
    assert image == queue_of(workspace)[0].image
    found = study.put_right(workspace, image)
    truth, classes = study.truth_of(workspace, image)
    masks = {str(one.mask.rle["counts"]): one for one in study.pseudo_masks(workspace, image)}
    kept = {str(region.rle["counts"]): region for region in found.regions}
    assert kept.keys() <= masks.keys(), "no outline is drawn"
    for counts, mask in masks.items():
        inside = truth[decode_rle(mask.mask.rle)]
        shares = [np.mean(inside == k) for k in range(len(classes))]
        best = int(np.argmax(shares))
        if shares[best] < 0.5:
            assert counts not in kept
        else:
            assert kept[counts].class_name == classes[best]
            right = mask.class_name == classes[best]
            assert kept[counts].origin == (mask.stage if right else "person")


def test_random_images_follow_from_the_seed(small_run: Path):
    workspace = Workspace.open(small_run)
    first = study.chosen(workspace, "random", 0)
    assert first == study.chosen(workspace, "random", 0)
    assert first != study.chosen(workspace, "random", 1)
    assert sorted(first) == sorted(workspace.listing().images)


def test_the_table_has_a_row_a_count_with_mean_and_half_the_range(tmp_path: Path):
    values = [0.5, 0.7, 0.6]
    curve = {way: dict.fromkeys(study.COUNTS, values) for way in study.WAYS}
    found = {
        "none": {"val": values, "test": values}, "weights": {1.0: values}, "weight": 1.0,
        "curve": curve,
    }  # fmt: skip
    table = study.tables(found)
    for count in ("none", *study.COUNTS):
        assert f"| {count} | 0.600 ± 0.100 | 0.600 ± 0.100 |" in table
    study.plot(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
