import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fmbseg.store import MANIFEST, UnitKey, file_sha, hashes, run_unit, unit_problem


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A cache of the test's own that takes files of any size and age; what was read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SMALL_BYTES", 0)
    monkeypatch.setattr(hashes, "SETTLED_NS", 0)
    hashes._opened.cache_clear()
    stock, found = hashes._read, list[str]()

    def noted(stream, kind):
        found.append(stream.name)
        return stock(stream, kind)

    monkeypatch.setattr(hashes, "_read", noted)
    yield found
    hashes._opened.cache_clear()


def as_in_another_process():
    hashes._database().save()
    hashes._opened.cache_clear()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_a_state_and_over_processes(tmp_path, read):
    file = tmp_path / "a.bin"
    file.write_bytes(b"12345")
    for _ in range(2):
        assert file_sha(file) == file_sha(file) == sha(b"12345")
        as_in_another_process()
    assert len(read) == 1
    assert hashes.file_hash(file, "md5") == hashlib.md5(b"12345").hexdigest()
    assert len(read) == 2


def test_other_bytes_of_the_same_size_and_date_are_noticed(tmp_path, read):
    file = tmp_path / "a.bin"
    file.write_bytes(b"12345")
    first, status = file_sha(file), file.stat()
    file.write_bytes(b"54321")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_sha(file) == sha(b"54321") != first
    copy = tmp_path / "copy.bin"
    copy.write_bytes(b"abcde")
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(copy, file)
    assert file_sha(file) == sha(b"abcde")


def test_a_file_that_may_still_change_is_read_each_time(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED_NS", 3_600_000_000_000)
    file = tmp_path / "a.bin"
    file.write_bytes(b"12345")
    assert file_sha(file) == file_sha(file)
    assert len(read) == 2


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None])
def test_a_damaged_cache_costs_time_alone(tmp_path, read, damage):
    file, kept = tmp_path / "a.bin", tmp_path / "cache" / "fmbseg" / "hashes.sqlite"
    file.write_bytes(b"12345")
    assert file_sha(file) == sha(b"12345")
    as_in_another_process()
    kept.unlink()
    if damage is None:
        kept.mkdir()
    else:
        kept.write_bytes(damage)
    assert file_sha(file) == sha(b"12345")
    as_in_another_process()
    assert file_sha(file) == sha(b"12345")


def test_a_home_that_cannot_be_written_to_costs_time_alone(tmp_path, read, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in the folder's place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    hashes._opened.cache_clear()
    file = tmp_path / "a.bin"
    file.write_bytes(b"12345")
    assert file_sha(file) == sha(b"12345")


def test_threads_and_processes_share_it(tmp_path, read):
    files = [tmp_path / f"{index}.bin" for index in range(40)]
    for index, file in enumerate(files):
        file.write_bytes(bytes([index]) * 50)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(file_sha, files * 3))
    assert found == [sha(bytes([index]) * 50) for index in range(40)] * 3
    as_in_another_process()
    code = (
        "import sys; from fmbseg.store import hashes, file_sha; hashes.SMALL_BYTES = 0;"
        "hashes._read = None; print(*(file_sha(name) for name in sys.argv[1:]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], check=True, capture_output=True, text=True
    )
    assert ran.stdout.split() == found[:40]


def test_a_valid_unit_is_not_read_again_while_its_files_keep_their_state(
    tmp_path, read, monkeypatch
):
    folder, key = tmp_path / "unit", UnitKey(inputs={"a": "1"})

    def compute(out):
        (out / "sub").mkdir()
        for name in ("a.json", "sub/b.json"):
            (out / name).write_text(name)

    run_unit(folder, key, compute)
    assert unit_problem(folder, key) is None
    as_in_another_process()
    read.clear()
    with monkeypatch.context() as patched:
        patched.setattr("fmbseg.store.manifest.read_json", None)
        assert unit_problem(folder, key) is None
    assert read == []
    assert unit_problem(folder, UnitKey(inputs={"a": "2"})) == "inputs.a changed"
    (folder / "sub/b.json").write_text("longer than before")
    assert unit_problem(folder, key) == "sub/b.json was edited"
    (folder / "sub/b.json").unlink()
    assert unit_problem(folder, key) == "sub/b.json is missing"
    (folder / "sub/b.json").write_text("sub/b.json")
    assert unit_problem(folder, key) is None
    (folder / "c.json").write_text("")
    assert unit_problem(folder, key) == "c.json was added"
    (folder / "c.json").unlink()
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(manifest + " ")
    assert unit_problem(folder, key) == "its manifest is missing or damaged"
    (folder / MANIFEST).unlink()
    assert unit_problem(folder, key) == "its manifest is missing or damaged"


def test_what_was_just_written_is_read_each_time(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED_NS", 3_600_000_000_000)
    run_unit(tmp_path / "unit", UnitKey(), lambda out: (out / "a.json").write_text("1"))
    read.clear()
    for count in (1, 2):
        assert unit_problem(tmp_path / "unit", UnitKey()) is None
        assert len(read) == count


def test_the_hashes_below_a_folder_may_be_looked_up_at_once(tmp_path, read, monkeypatch):
    files = [tmp_path / name for name in ("in/a", "in/b/c", "in.d", "inn")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    found = [file_sha(file) for file in files]
    as_in_another_process()
    with hashes.read_at_once(tmp_path / "in"):
        held = hashes._database()._held
        assert {path for path, _ in held} == {str(file) for file in files[:2]}
        assert [file_sha(file) for file in files] == found
        files[0].write_text("other")
        assert file_sha(files[0]) == sha(b"other")
    assert hashes._database()._held == {}
