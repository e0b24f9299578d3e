"""Sound archives are unpacked; what is cut, damaged or too large is refused."""

import gzip
import io
import os
import random
import sys
import tarfile

import pytest

from fmbseg.store import ArchiveError, DiskFullError, extract_archive
from tests.support.packed import (
    FILES,
    PACKERS,
    contents,
    refused,
    save,
    special,
    tar_bytes,
    tar_of,
    zip_of,
)


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_every_kind_is_unpacked_by_content_whatever_its_name(tmp_path, kind):
    data = zip_of(FILES) if kind == "zip" else PACKERS[kind](tar_of(FILES))
    path = save(tmp_path, data, "name that says nothing")
    assert extract_archive(path, tmp_path / "not/yet/there") == sorted(FILES)
    assert contents(tmp_path / "not/yet/there") == FILES
    assert [p.name for p in (tmp_path / "not/yet").iterdir()] == ["there"]


def test_archives_that_the_usual_tools_write_are_unpacked(tmp_path):
    folder = tmp_path / "packed"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "empty folder").mkdir()
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=style) as bundle:
            bundle.add(folder, ".")
        target = tmp_path / f"out{style}"
        assert extract_archive(tmp_path / "a.tar", target) == sorted(FILES)
        assert (target / "empty folder").is_dir()


def test_rights_in_the_archive_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("a.png")
    info.mode, info.size = 0o4777, 1
    extract_archive(save(tmp_path, tar_bytes(info)), tmp_path / "out")
    assert (tmp_path / "out/a.png").stat().st_mode & 0o7111 == 0


def test_a_folder_may_be_named_twice(tmp_path):
    folder = special("sub", tarfile.DIRTYPE)
    path = save(tmp_path, tar_bytes(folder, "sub/a.png", folder))
    assert extract_archive(path, tmp_path / "out") == ["sub/a.png"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("fmbseg.store.space.free_bytes", lambda folder: 1000)
    data = zip_of({"a": bytes(1001)}) if kind == "zip" else tar_of({"a": bytes(1001)})
    path = save(tmp_path, data)
    with pytest.raises(DiskFullError, match=r"needs about 1.0 kB in .*1.0 kB are free"):
        extract_archive(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["some.archive"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"hello, this is text", "not a zip or tar"),
        (random.Random(0).randbytes(5000), "not a zip or tar"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "not a zip or tar"),
        (gzip.compress(b"not a tar inside" * 99, mtime=0), "not a zip or tar"),
        (gzip.compress(b"", mtime=0), "damaged"),
        (b"\x1f\x8b" + bytes(40), "damaged"),
        (b"PK\3\4" + bytes(99), "damaged"),
        (zip_of({}), "holds no file"),
        (tar_of({}), "holds no file"),
        (tar_bytes(special("only a folder", tarfile.DIRTYPE)), "holds no file"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, data, words):
    refused(tmp_path, data, words)


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_an_archive_cut_anywhere_is_refused(tmp_path, kind):
    whole = {str(i): random.Random(i).randbytes(700) for i in range(9)}
    data = zip_of(whole) if kind == "zip" else PACKERS[kind](tar_of(whole))
    end = data.index(whole["8"]) + 700 if kind == "tar" else len(data)  # then zeros follow
    for cut in [*range(10, end, 401), end - 1]:
        refused(tmp_path, data[:cut], "damaged|not a zip or tar")


def test_a_tar_with_a_damaged_header_in_its_middle_is_refused(tmp_path):
    data = bytearray(tar_of({"a": b"1", "b": b"2", "c": b"3"}))
    data[1024 + 150] ^= 0xFF
    refused(tmp_path, bytes(data), "bad header inside")


def test_a_zip_with_a_wrong_checksum_is_refused(tmp_path):
    data = zip_of({"a.png": b"content"}).replace(b"content", b"Content")
    refused(tmp_path, data, "damaged .*CRC")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    path = save(tmp_path, tar_of(FILES))
    target = tmp_path / "out"
    target.mkdir()
    extract_archive(path, target)
    (target / "a.png").write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="exists already"):
        extract_archive(path, target)
    assert (target / "a.png").read_bytes() == b"mine"


def test_a_missing_archive_and_a_fifo_are_named_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("pipe.zip", "absent.zip"):
        with pytest.raises(ArchiveError, match="no such file"):
            extract_archive(tmp_path / name, tmp_path / "out")


def test_an_interrupted_call_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        real(*arguments, **options)
        raise KeyboardInterrupt

    real = tarfile.TarFile.extract
    monkeypatch.setattr(tarfile.TarFile, "extract", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract_archive(save(tmp_path, tar_of(FILES)), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["some.archive"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_the_bar_of_a_terminal_counts_bytes_to_its_end(tmp_path, kind, capsys, monkeypatch):
    files = {"a.png": random.Random(0).randbytes(3_000_000)}
    data = zip_of(files) if kind == "zip" else PACKERS[kind](tar_of(files))
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    extract_archive(save(tmp_path, data), tmp_path / "out")
    assert "unpacking some.archive: 100%" in shown.getvalue()
    assert "B/s" in shown.getvalue()
    assert capsys.readouterr().out == ""
