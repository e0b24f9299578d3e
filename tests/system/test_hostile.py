"""Listing and reading the folder of hostile and unusual files."""

import html
import os
import re
import threading
import time
import warnings

import numpy as np
import PIL.Image
import pytest
import yaml

from fmbseg.miniature import world
from fmbseg.pseudo.shard import compute_shard
from fmbseg.steps.plan import STEPS, problem, run_step
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    UnreadableImageError,
    image_sha,
    list_images,
    read_coco,
    read_image,
    read_json,
    scan_images,
)
from tests.conftest import REPOSITORY
from tests.support.hostile_folder import SIZE_HW, hostile_folder, make_hostile_folder

SECONDS_A_FILE = 5.0


@pytest.fixture(scope="module")
def world_images():
    return [one.image for one in world.generate(0, 3, "train")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, world_images):
    return hostile_folder(tmp_path_factory.mktemp("hostile") / "images", world_images)


@pytest.fixture(scope="module")
def scan(hostile):
    found = []
    worker = threading.Thread(target=lambda: found.append(scan_images(hostile.root)), daemon=True)
    worker.start()
    worker.join(timeout=30)
    assert found, "listing waits for something"
    return found[0]


def test_there_are_many_kinds_of_either(hostile, world_images, tmp_path):
    assert len(hostile.bad) >= 60
    assert len(hostile.good) >= 60
    bad, good = make_hostile_folder(tmp_path / "images", world_images)
    assert good == set(hostile.good)
    assert len(bad) == len(hostile.bad)


def test_every_entry_is_listed_or_refused_and_none_is_both(hostile, scan):
    refused = {one.image: one.reason for one in scan.refused}
    assert set(hostile.good) <= set(scan.names)
    assert set(scan.names) | set(refused) == set(hostile.good) | set(hostile.bad)
    assert not set(scan.names) & set(refused)
    assert len(refused) >= 20
    for name, reason in refused.items():
        assert re.search(hostile.bad[name], reason), (name, reason)


def test_names_and_reasons_are_single_printable_lines_in_order(scan):
    for one in scan.refused:
        for text in (one.image, one.reason):
            assert text.encode()
            assert len(text.splitlines()) == 1
            assert "\x1b" not in text
    assert list(scan.names) == sorted(scan.names)
    assert [one.image for one in scan.refused] == sorted(one.image for one in scan.refused)


def test_every_good_picture_gives_its_pixels_upright_and_fast(hostile):
    for name, pixels in hostile.good.items():
        began = time.perf_counter()
        read = read_image(hostile.root / name)
        assert time.perf_counter() - began < SECONDS_A_FILE, name
        assert read.dtype == np.uint8
        assert read.shape == pixels.shape, name
        off = np.abs(read.astype(int) - pixels).mean()
        assert off <= hostile.off.get(name, 0.0), (name, off)


def test_a_picture_read_in_another_orientation_would_be_noticed(hostile):
    tolerated = max(off for name, off in hostile.off.items() if name.startswith("exif/"))
    for name in ("exif/turned 1.jpg", "exif/turned 6.tiff"):
        pixels = hostile.good[name].astype(int)
        assert pixels.shape[:2] == SIZE_HW
        for other in (pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]):
            assert np.abs(pixels - other).mean() > 2 * tolerated


def test_every_bad_one_has_its_reason_when_it_is_read(hostile, scan):
    for name in sorted(set(scan.names) & set(hostile.bad) - hostile.too_small):
        began = time.perf_counter()
        with pytest.raises(UnreadableImageError) as caught:
            read_image(hostile.root / name)
        assert time.perf_counter() - began < SECONDS_A_FILE, name
        assert re.search(hostile.bad[name], caught.value.reason), (name, caught.value.reason)
        assert len(caught.value.reason.splitlines()) == 1
        assert str(hostile.root) not in caught.value.reason


def test_what_the_listing_refuses_is_refused_by_the_reader_too_or_only_badly_placed(hostile, scan):
    """A reader without a listing (one file given by path) must not wait either."""
    for one in scan.refused:
        path = hostile.root / one.image
        if any(word in one.reason for word in ("FIFO", "socket", "device", "circle", "broken")):
            with pytest.raises(UnreadableImageError):
                read_image(path)


def test_every_listed_name_has_a_hash_and_one_that_vanishes_gets_its_reason(
    hostile, scan, tmp_path
):
    shas = {name: image_sha(hostile.root / name) for name in scan.names}
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for sha in shas.values())
    assert shas["UPPER.PNG"] == shas["link.png"] == shas["hard link.png"]
    (tmp_path / "a.png").touch()
    assert list_images(tmp_path) == ["a.png"]
    (tmp_path / "a.png").unlink()
    assert image_sha(tmp_path / "a.png") == "unreadable: no such file"
    with pytest.raises(UnreadableImageError, match=r"^no such file$"):
        read_image(tmp_path / "a.png")


def test_warnings_made_errors_change_nothing(hostile):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, pixels in hostile.good.items():
            read = read_image(hostile.root / name)
            assert np.abs(read.astype(int) - pixels).mean() <= hostile.off.get(name, 0.0), name


@pytest.mark.slow
@pytest.mark.weights
def test_stage_1_of_the_folder_completes_and_sets_exactly_the_bad_aside(hostile, scan, tmp_path):
    from fmbseg.models.build import build_model
    from fmbseg.params import load_params
    from fmbseg.pseudo.teacher import ClipSamTeacher

    clip = build_model("clip", "miniature", {}, projection="naclip", short_side_px="auto")
    sam = build_model("sam", "miniature", {})
    names = world.SEEN_CLASS_NAMES
    options = load_params(REPOSITORY / "params.yaml").pseudo_masks.changed(points_per_side=4)
    compute_shard(
        scan.names, lambda name: read_image(hostile.root / name),
        ClipSamTeacher(clip, sam, clip.encode_text(names), names, options),
        tmp_path / "out", tmp_path / "scratch",
    )  # fmt: skip
    found = read_json(tmp_path / "out/quarantine.json")
    assert {one["image"] for one in found} == set(scan.names) & set(hostile.bad)
    for one in found:
        assert re.search(hostile.bad[one["image"]], one["reason"]), one
    assert set(read_coco(tmp_path / "out/stage11.json").image_sizes_hw) == set(hostile.good)


@pytest.mark.e2e
@pytest.mark.weights
def test_the_whole_pipeline_runs_through_the_folder_and_lists_each_bad_one(tmp_path):
    images, labels = tmp_path / "photos", tmp_path / "labels"
    bad, good = make_hostile_folder(images, [one.image for one in world.generate(0, 3, "train")])
    assert len(bad) >= 60
    labels.mkdir()
    for name in ("Müller am See.png", "link.png"):
        if name in good:
            size_hw = read_image(images / name).shape[:2]
            PIL.Image.fromarray(np.zeros(size_hw, np.uint8)).save(labels / name)
    if hasattr(os, "mkfifo"):
        os.mkfifo(labels / "waits.png")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {
        "images": str(images), "classes": str(tmp_path / "classes.txt"), "labels": str(labels)
    }  # fmt: skip
    params["pseudo_masks"]["points_per_side"] = 4
    params["train"] |= {"epochs": 1}
    params["evaluate"] |= {"methods": ["fmbseg"]}
    (tmp_path / "classes.txt").write_text("\n".join(world.SEEN_CLASS_NAMES))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = Workspace.open(tmp_path)
    for step in STEPS:
        run_step(workspace, step)
    reasons = {entry["image"]: entry["reason"] for entry in quarantined(workspace)}
    assert set(reasons) == set(bad)
    for name, reason in reasons.items():
        assert re.search(bad[name], reason), (name, reason)
    seen: set[str] = set()
    for shard in shards(workspace):
        seen |= set(read_json(workspace.pseudo_masks / shard / "presence.json"))
    assert seen == good
    page = html.unescape((workspace.report / "index.html").read_text())
    assert all(name in page for name in reasons)
    assert problem(workspace) is None
