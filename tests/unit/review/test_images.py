"""What is shown of an image: what is painted, what was dropped, what a person left."""

import shutil
import threading
import time
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from fmbseg.corrections.store import Change, Correction, now, save_correction
from fmbseg.review.images import labelled, shown
from fmbseg.review.queue import queue
from fmbseg.steps.review import QueueEntry
from fmbseg.store import StoreError, write_json
from tests.support.review_workspace import MASKS, SIZE_HW, review_workspace

NAME = "street/a <i>b</i>.png"


def classes(regions):
    return [(one.class_name, one.origin) for one in regions]


def test_all_masks_are_shown_that_are_seen_and_the_others_offered(tmp_path):
    found = shown(review_workspace(tmp_path, {NAME: MASKS}), NAME)
    assert found.image_hw == SIZE_HW
    assert classes(found.regions) == [("<b>car</b>", "1.1"), ("sky", "1.1"), ("grass", "1.2")]
    assert classes(found.candidates) == [("grass", "1.2")]
    assert all(0 <= one.score <= 1 for one in found.regions + found.candidates)


def test_what_is_not_trained_on_is_offered(tmp_path):
    found = shown(review_workspace(tmp_path, {NAME: MASKS}, kept=True), NAME)
    assert classes(found.regions) == [("<b>car</b>", "1.1"), ("sky", "1.1")]
    assert classes(found.candidates) == [("grass", "1.2"), ("grass", "1.2")]


def test_what_a_person_left_is_shown_and_never_of_another_picture(tmp_path):
    workspace = review_workspace(tmp_path, {NAME: MASKS, "b.png": MASKS})
    first = shown(workspace, NAME)
    change = Change("anna", now(), "review", "deleted")
    sha = workspace.listing().images[NAME]
    left = Correction(NAME, sha, SIZE_HW, ("sky",), first.regions[:1], True, (change,))
    save_correction(workspace.corrections, left)
    assert classes(shown(workspace, NAME).regions) == [("<b>car</b>", "1.1")]
    assert len(shown(workspace, NAME).candidates) == 3
    other = Correction("b.png", "0" * 64, SIZE_HW, ("sky",), first.regions[1:], True, (change,))
    save_correction(workspace.corrections, other)
    found = shown(workspace, "b.png")
    assert found.changed
    assert len(found.regions) == 3
    assert queue(workspace).states == {NAME: "accepted", "b.png": "changed"}


def test_a_picture_that_was_replaced_and_one_without_masks_are_said(tmp_path):
    workspace = review_workspace(tmp_path, {NAME: MASKS, "b.png": MASKS})
    Image.fromarray(np.zeros((*SIZE_HW, 3), np.uint8)).save(tmp_path / "images" / NAME)
    with pytest.raises(StoreError, match="another picture than the one that was labelled"):
        shown(workspace, NAME)
    with pytest.raises(StoreError, match="no such image"):
        shown(workspace, "../params.yaml")
    assert list(queue(workspace).doubts) == ["b.png", NAME]
    (folder,) = workspace.pseudo_masks.glob("images-0*")
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="has not labelled it yet"):
        shown(workspace, "b.png")
    found = queue(workspace)
    assert (list(found.doubts), found.waiting) == ([NAME], 1)


def test_while_a_run_replaces_a_shard_its_masks_are_of_one_run(tmp_path):
    masks = {"a.png": MASKS}
    workspace, other = (
        review_workspace(tmp_path / name, masks, classes=names)
        for name, names in (("now", ("a", "b", "c")), ("then", ("x", "y", "z")))
    )
    (shard,), (spare,) = (one.pseudo_masks.glob("images-0*") for one in (workspace, other))
    stop = threading.Event()

    def replace():
        while not stop.is_set():  # as `run_unit` does: away with the old one, then the new one
            write_json(spare / "manifest.json", {"at": time.time_ns()})  # no folder comes back
            shard.rename(tmp_path / "old")
            spare.rename(shard)
            (tmp_path / "old").rename(spare)
            time.sleep(0.002)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = [labelled(workspace, "a.png") for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    names = {tuple(sorted({mask.class_name for mask in one.every})) for one in seen}
    assert names == {("a", "b", "c"), ("x", "y", "z")}


def test_the_queue_goes_by_the_step_review_and_names_what_it_has_not_seen(tmp_path):
    workspace = review_workspace(tmp_path, dict.fromkeys(["a.png", "b.png", "c.png"], MASKS))
    entries = [asdict(QueueEntry(name, doubt, 0)) for name, doubt in
               (("c.png", 0.4), ("gone.png", 0.3), ("a.png", 0.2))]  # fmt: skip
    write_json(workspace.review / "queue.json", {"images": entries})
    assert list(queue(workspace).doubts.items()) == [
        ("c.png", 0.4), ("a.png", 0.2), ("b.png", None)
    ]  # fmt: skip
