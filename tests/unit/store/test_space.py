import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmbseg.store import DiskFullError, explain_full_disk, free_bytes, human_bytes, require_space

TINY_DISK = "size=3m,nr_inodes=64"
SCRIPT = """
import json, sys
from pathlib import Path
import numpy, torch, PIL.Image, safetensors.torch
from fmbseg.store import DiskFullError, explain_full_disk, require_space, write_bytes

disk, told = Path(sys.argv[1]), {}

def tell(name, act):
    try:
        with explain_full_disk(name, disk):
            act()
    except DiskFullError as error:
        told[name] = str(error)
    left = {path.name: path.stat().st_size for path in disk.iterdir()}
    for path in disk.iterdir():
        path.unlink()
    return left

def many_files():
    for index in range(100):
        write_bytes(disk / str(index), b"")

def no_more_files():
    for index in range(63):
        (disk / str(index)).touch()
    require_space(disk, 1, "one more")

noise = numpy.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=numpy.uint8)
tensors = {"a": torch.zeros(10**6)}
write_bytes(disk / "a.bin", b"old")
told["left"] = tell("bytes", lambda: write_bytes(disk / "a.bin", bytes(4 * 2**20)))
tell("safetensors", lambda: safetensors.torch.save_file(tensors, disk / "a.safetensors"))
tell("png", lambda: PIL.Image.fromarray(noise).save(disk / "a.png"))
tell("tiff", lambda: PIL.Image.fromarray(noise).save(disk / "a.tif"))
tell("plan", lambda: require_space(disk / "below", 10 * 2**20, "a plan"))
tell("small files", many_files)
tell("plan of one", no_more_files)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What was said in a process whose disk is a real file system of 3 MiB and 64 entries."""
    folder = tmp_path_factory.mktemp("space")
    disk, script = folder / "disk", folder / "script.py"
    disk.mkdir()
    script.write_text(SCRIPT)
    mount = f"mount -t tmpfs -o {TINY_DISK} tmpfs '{disk}'"
    inside = ["unshare", "-rm", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*inside, mount], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    done = subprocess.run(
        [*inside, f"{mount} && exec '{sys.executable}' '{script}' '{disk}'"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000_000, "1.5 GB"),
        (99_400_000, "99.4 MB"), (123_400_000, "123 MB"), (999_600_000, "1.0 GB"),
        (7 * 10**18, "7000 PB"),
    ],
)  # fmt: skip
def test_sizes_are_printed_as_people_read_them(count, words):
    assert human_bytes(count) == words


def test_enough_room_says_nothing_also_for_a_folder_that_does_not_exist_yet(tmp_path):
    require_space(tmp_path / "not/made/yet", 1, "a file")
    free = shutil.disk_usage(tmp_path).free
    assert free_bytes(tmp_path / "not/made/yet") == pytest.approx(free, rel=0.01)


def test_too_little_room_says_what_where_how_much_and_what_to_do(tmp_path):
    wanted = free_bytes(tmp_path) + 10**15
    with pytest.raises(DiskFullError) as caught:
        require_space(tmp_path / "new", wanted, "the data set")
    text = str(caught.value)
    assert text.startswith(f"the data set needs about {human_bytes(wanted)} in {tmp_path}/new")
    assert "are free; free some" in text
    assert "\n" not in text
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, OSError)


def test_the_error_survives_pickling_with_its_words():
    error = DiskFullError(errno.ENOSPC, "no room")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errno) == (DiskFullError, "no room", errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/nowhere/at/all/x"), "/nowhere/at/all:"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (RuntimeError('IoError(Os { code: 28, kind: StorageFull, message: "" })'), "disk is full"),
    ],
)
def test_a_full_disk_met_inside_is_explained(tmp_path, error, words):
    what = "the checkpoint"
    with pytest.raises(DiskFullError, match=words) as caught, explain_full_disk(what, tmp_path):
        raise error
    assert str(caught.value).startswith("the checkpoint could not be written to ")
    assert caught.value.__cause__ is error


def test_a_full_disk_behind_another_error_is_explained(tmp_path):
    error = ValueError("cannot save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DiskFullError), explain_full_disk("the report", tmp_path):
        raise error


def test_other_errors_and_errors_already_explained_pass_as_they_are(tmp_path):
    for error in (OSError(errno.EACCES, "no"), KeyError("x"), DiskFullError(errno.ENOSPC, "mine")):
        with pytest.raises(type(error)) as caught, explain_full_disk("a file", tmp_path):
            raise error
        assert caught.value is error


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["bytes", "safetensors", "png", "tiff"])
def test_on_a_disk_that_is_really_full_every_writer_is_explained(told, writer):
    assert re.match(f"{writer} could not be written to .*/disk: the disk is full, ", told[writer])


@pytest.mark.slow
def test_a_whole_file_that_does_not_fit_leaves_what_was_there(told):
    assert told["left"] == {"a.bin": 3}


@pytest.mark.slow
def test_room_is_asked_of_the_disk_that_will_hold_the_folder(told):
    assert re.match("a plan needs about 10.5 MB in .*/disk/below, where 3.1 MB", told["plan"])


@pytest.mark.slow
def test_a_disk_without_room_for_another_file_is_told_from_one_without_bytes(told):
    assert re.match(".*could not be written.*no inodes are left", told["small files"])
    assert re.match("one more needs files in .*no inodes are left", told["plan of one"])
