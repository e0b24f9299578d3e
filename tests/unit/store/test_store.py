import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
from pycocotools.coco import COCO

from fmbseg.store import (
    MANIFEST,
    StoreError,
    UnitKey,
    decode_rle,
    encode_rles,
    foreground_runs,
    load_safetensors,
    read_coco,
    read_json,
    run_unit,
    save_safetensors,
    unit_is_valid,
    unit_problem,
    write_bytes,
    write_coco,
    write_json,
)
from fmbseg.store.files import file_shas
from fmbseg.types import PseudoMask, SamMask
from tests.support.masks import encode_rle

KEY = UnitKey(inputs={"a.png": "12"}, params={"epochs": 3}, code={"x.py": "34"})
OTHER = UnitKey(inputs={"a.png": "12"}, params={"epochs": 4}, code={"x.py": "34"})
FORK = multiprocessing.get_context("fork")


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def pseudo_mask(pixels, image="a.png", class_index=0, stage="1.1", names=("sky", "car")):
    rows, cols = np.nonzero(pixels)
    box = (
        float(cols.min()),
        float(rows.min()),
        float(np.ptp(cols) + 1),
        float(np.ptp(rows) + 1),
    )
    sam = SamMask(encode_rle(pixels), int(pixels.sum()), box, 0.75, 0.5, ((1.5, 2.5), (3.0, 0.5)))
    return PseudoMask(image, class_index, names[class_index], stage, 0.25, sam)


def write_number(number):
    return lambda folder: (folder / "out.txt").write_text(str(number))


# files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "a.json", 5)
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert listed(tmp_path) == ["a.json"]


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "a.json").write_text('{"x": ')
    (tmp_path / "a.safetensors").write_bytes(b"12")
    for read, name in ((read_json, "a.json"), (load_safetensors, "a.safetensors")):
        with pytest.raises(StoreError, match=name):
            read(tmp_path / name)
        with pytest.raises(StoreError, match="no such file"):
            read(tmp_path / "absent")


def test_safetensors_round_trip_with_the_same_bytes(tmp_path):
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor(3, dtype=torch.int64)}
    save_safetensors(tmp_path / "1", tensors)
    save_safetensors(tmp_path / "2", dict(reversed(tensors.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    for name, tensor in load_safetensors(tmp_path / "1").items():
        assert torch.equal(tensor, tensors[name])


def test_the_hashes_of_a_folder_see_names_and_contents_but_not_dates_or_the_manifest(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_text("1")
    before = file_shas(tmp_path)
    os.utime(tmp_path / "sub/a", (0, 0))
    (tmp_path / MANIFEST).write_text("{}")
    assert file_shas(tmp_path) == before
    (tmp_path / "sub/a").rename(tmp_path / "sub/b")
    renamed = file_shas(tmp_path)
    (tmp_path / "sub/b").write_text("2")
    assert before != renamed != file_shas(tmp_path) != before


# masks


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 4), (17, 5)])
def test_run_lengths_round_trip_on_masks_that_are_not_square(size_hw):
    masks = np.random.default_rng(0).random((6, *size_hw)) > 0.5
    masks[0], masks[1] = False, True
    rles = encode_rles(masks)
    for mask, rle in zip(masks, rles, strict=True):
        assert rle["size"] == list(size_hw)
        assert isinstance(rle["counts"], str)
        assert rle == encode_rle(mask)
        np.testing.assert_array_equal(decode_rle(rle), mask)
    assert encode_rles(masks[:0]) == []


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 7), (300, 400)])
def test_foreground_runs_hold_the_pixels_that_pycocotools_decodes(size_hw):
    rng = np.random.default_rng(1)
    height, width = size_hw
    blocks = np.kron(rng.random((height // 40 + 1, width // 50 + 1)) > 0.5, np.ones((40, 50)))
    noise = rng.random((3, *size_hw)) > np.array([0.1, 0.5, 0.99])[:, None, None]
    shapes = [np.zeros(size_hw), np.ones(size_hw), blocks[:height, :width], *noise]
    rles = encode_rles(np.array(shapes, bool))
    for rle, runs in zip(rles, foreground_runs(rles), strict=True):
        pixels = np.zeros(height * width, bool)
        for start, end in runs:
            assert end > start
            pixels[start:end] = True
        np.testing.assert_array_equal(pixels.reshape(width, height).T, decode_rle(rle))
    assert foreground_runs([]) == []
    with pytest.raises(ValueError, match=f"wanted {height + 1} x {width}"):
        foreground_runs([*rles, {**rles[0], "size": [height + 1, width]}])


def test_run_lengths_go_down_the_columns():
    """COCO's uncompressed counts, by hand: start with zeros, column by column."""
    mask = np.array([[0, 1], [0, 1], [1, 0]], bool)
    rle = pycocotools.mask.frPyObjects({"size": [3, 2], "counts": [2, 3, 1]}, 3, 2)
    assert encode_rle(mask)["counts"] == rle["counts"].decode()


def test_a_coco_file_loads_in_pycocotools_and_comes_back_equal(tmp_path):
    first = np.zeros((3, 4), bool)
    first[1, 2:] = True
    second = np.zeros((5, 2), bool)
    second[3:, 1] = True
    masks = [
        pseudo_mask(first, class_index=1),
        pseudo_mask(second, image="ü b.png", stage="1.2"),
    ]
    sizes = {"ü b.png": (5, 2), "a.png": (3, 4), "none.png": (9, 9)}
    write_coco(tmp_path / "a.json", masks, sizes, ("sky", "car"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "a.json")
    assert len(coco.imgs) == 3
    assert {c["id"]: c["name"] for c in coco.cats.values()} == {1: "sky", 2: "car"}
    annotation = coco.loadAnns(coco.getAnnIds(catIds=[2]))[0]
    np.testing.assert_array_equal(coco.annToMask(annotation), first)
    assert annotation["area"] == 2
    assert annotation["bbox"] == [2, 1, 2, 1]
    assert annotation["iscrowd"] == 0
    assert coco.imgs[annotation["image_id"]]["file_name"] == "a.png"
    back = read_coco(tmp_path / "a.json")
    assert back.masks == masks
    assert back.image_sizes_hw == sizes
    assert back.class_names == ("sky", "car")
    write_coco(tmp_path / "b.json", masks, dict(sorted(sizes.items())), ("sky", "car"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_masks_that_do_not_fit_are_not_written(tmp_path):
    mask = pseudo_mask(np.ones((3, 4), bool), class_index=1)
    for sizes, names, words in (
        ({"b.png": (3, 4)}, ("sky", "car"), "not among the images"),
        ({"a.png": (3, 4)}, ("sky",), "class index 1"),
        ({"a.png": (3, 4)}, ("sky", "cat"), "'car'"),
        ({"a.png": (4, 3)}, ("sky", "car"), r"\[4, 3\]"),
    ):
        with pytest.raises(StoreError, match=words):
            write_coco(tmp_path / "a.json", [mask], sizes, names)
    write_json(tmp_path / "b.json", {"images": []})
    with pytest.raises(StoreError, match=r"b\.json"):
        read_coco(tmp_path / "b.json")


# units


def test_a_valid_unit_is_not_computed_again(tmp_path):
    assert run_unit(tmp_path / "u", KEY, write_number(1))
    before = file_shas(tmp_path / "u")
    assert not run_unit(tmp_path / "u", KEY, write_number(2))
    assert file_shas(tmp_path / "u") == before
    assert unit_is_valid(tmp_path / "u", KEY)
    assert listed(tmp_path) == ["u", "u.lock"]


def test_a_changed_key_or_a_changed_file_computes_again_and_says_why(tmp_path):
    unit = tmp_path / "u"
    assert unit_problem(unit, KEY) == "not computed yet"
    run_unit(unit, KEY, write_number(1))
    assert unit_problem(unit, OTHER) == "params.epochs changed"
    changes = {
        "out.txt was edited": lambda: (unit / "out.txt").write_text("x"),
        "out.txt is missing": (unit / "out.txt").unlink,
        "more.txt was added": lambda: (unit / "more.txt").write_text("x"),
        "its manifest is missing or damaged": (unit / MANIFEST).unlink,
    }
    for problem, change in changes.items():
        change()
        assert unit_problem(unit, KEY) == problem
        assert run_unit(unit, KEY, write_number(1))
        assert unit_problem(unit, KEY) is None
    (unit / MANIFEST).write_text('{"format": 1, "key": 3, "files": [1]}')
    assert not unit_is_valid(unit, KEY)


def test_the_key_does_not_depend_on_the_order_of_its_parts():
    one = UnitKey(params={"a": 1, "b": 2})
    assert one.digest == UnitKey(params={"b": 2, "a": 1}).digest
    assert one.digest != UnitKey(inputs={"a": "1"}, params={"b": 2}).digest


def test_a_failure_keeps_the_old_unit_and_the_resume_state(tmp_path):
    run_unit(tmp_path / "u", KEY, write_number(1))

    def fail(folder):
        (folder / "half").touch()
        (tmp_path / "keep/state").touch()
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        run_unit(tmp_path / "u", OTHER, fail, keep=tmp_path / "keep")
    assert unit_is_valid(tmp_path / "u", KEY)
    assert (tmp_path / "keep/state").exists()
    assert listed(tmp_path) == ["keep", "u", "u.lock"]
    assert run_unit(tmp_path / "u", OTHER, write_number(2), keep=tmp_path / "keep")
    assert not (tmp_path / "keep").exists()
    assert (tmp_path / "u/out.txt").read_text() == "2"


_ONE_OF_SEVERAL = """
import sys, time
from pathlib import Path
from fmbseg.store import UnitKey, run_unit

root = Path(sys.argv[1])

def count_and_wait(folder):
    with (root / "log").open("a") as stream:
        stream.write("x")
    time.sleep(0.5)
    (folder / "out.txt").write_text("1")

run_unit(root / "u", UnitKey(params={"several": 1}), count_and_wait)
"""


def test_of_three_processes_at_once_one_computes_and_all_find_the_result(tmp_path):
    command = [sys.executable, "-c", _ONE_OF_SEVERAL, str(tmp_path)]
    workers = [subprocess.Popen(command) for _ in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "x"
    assert unit_is_valid(tmp_path / "u", UnitKey(params={"several": 1}))


def _killed_at(step: str, count: int, folder: Path) -> None:
    """Run a replacing unit that kills itself at the n-th call of os.<step>."""
    real, calls = getattr(os, step), []

    def counting(*args, **kwargs):
        calls.append(args)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(os, step, counting)
    run_unit(folder, OTHER, write_number(2))


@pytest.mark.parametrize(("step", "count"), [("replace", 1), ("rename", 1), ("rename", 2)])
@pytest.mark.parametrize("again", [KEY, OTHER])
def test_a_kill_at_any_step_of_publishing_leaves_a_unit_that_completes(
    tmp_path, step, count, again
):
    unit = tmp_path / "u"
    run_unit(unit, KEY, write_number(1))
    worker = FORK.Process(target=_killed_at, args=(step, count, unit))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    number = 1 if again == KEY else 2
    run_unit(unit, again, write_number(number))
    assert unit_is_valid(unit, again)
    assert (unit / "out.txt").read_text() == str(number)
    assert listed(tmp_path) == ["u", "u.lock"]


def test_what_a_killed_run_had_completed_is_adopted_not_computed_again(tmp_path):
    unit = tmp_path / "u"
    run_unit(unit, KEY, write_number(1))
    worker = FORK.Process(target=_killed_at, args=("rename", 2, unit))
    worker.start()
    worker.join()

    def never(folder):
        raise AssertionError("computed again")

    assert run_unit(unit, OTHER, never)
    assert (unit / "out.txt").read_text() == "2"
