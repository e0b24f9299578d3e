"""`install` with archives that are refused, disks that are full, and cuts at any moment."""

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fmbseg.datasets import load
from fmbseg.fetch import DownloadError
from fmbseg.store import ArchiveError, DiskFullError
from tests.support import official_trees as trees
from tests.support.archive_server import catalogue, get, in_archives_folder, listing, zipped
from tests.support.http_server import FileServer, file_server


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def traversal_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ADEChallengeData2016/a.txt", "good")
        archive.writestr("../../outside.txt", "bad")
    return content.getvalue()


def linked_tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        link = tarfile.TarInfo("ADEChallengeData2016/images")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("ADEChallengeData2016/images/a.jpg"))
    return content.getvalue()


def cut_zip() -> bytes:
    content = traversal_zip()
    return content[: len(content) // 2]


@pytest.mark.parametrize("make", [traversal_zip, linked_tar, cut_zip])
@pytest.mark.parametrize("own", [False, True])
def test_an_archive_with_ways_out_or_half_of_one_is_refused_whole(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], bytes], own: bool,
):  # fmt: skip
    file, content = "ADEChallengeData2016.zip", make()
    catalogue(monkeypatch, server, "ade150", {file: content}, published=False)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / file).write_bytes(content)
    with pytest.raises((DownloadError, ArchiveError), match=r"ADEChallengeData2016\.zip"):
        get("ade150", tmp_path / "a/b/root", zips=tmp_path / "own" if own else None)
    root = tmp_path / "a/b/root"
    assert listing(root) == set()
    assert in_archives_folder(root) == (set() if own else {f"{file}.bad"})
    assert not list(tmp_path.rglob("outside.txt"))
    assert (tmp_path / "own" / file).read_bytes() == content


def test_after_a_bad_archive_a_good_one_is_taken(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    file = "ADEChallengeData2016.zip"
    catalogue(monkeypatch, server, "ade150", {file: b"<p>no archive"}, published=False)
    with pytest.raises(DownloadError, match="kept as"):
        get("ade150", tmp_path / "root")
    server.serve(f"/{file}", zipped(tmp_path / "made", "ADEChallengeData2016"))
    assert get("ade150", tmp_path / "root").images == {"val": 4}


def test_a_disk_too_small_is_told_before_anything_is_fetched(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    monkeypatch.setattr("fmbseg.store.space.free_bytes", lambda folder: 2 * len(content) - 1)
    with pytest.raises(DiskFullError, match=r"ADEChallengeData2016\.zip needs about"):
        get("ade150", tmp_path / "root")
    assert not server.asked


def test_a_tree_that_lost_files_is_made_whole_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    root = tmp_path / "root"
    get("ade150", root, keep_archives=True)
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        (root / f"ADEChallengeData2016/{kind}/validation/ADE_val_00000002.{ending}").unlink()
    assert len(load("ade150", root, "val")) == 3, "a cut copy opens, so that counts must be known"
    assert get("ade150", root).images == {"val": 4}
    assert len(server.asked["/ADEChallengeData2016.zip"]) == 1


def test_moving_that_was_cut_goes_on(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    root, move, calls = tmp_path / "root", shutil.move, []
    (root / "ADEChallengeData2016/images/validation").mkdir(parents=True)

    def cut(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 4:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr("fmbseg.fetch.unpack.shutil.move", cut)
    with pytest.raises(KeyboardInterrupt):
        get("ade150", root)
    monkeypatch.setattr("fmbseg.fetch.unpack.shutil.move", move)
    assert 0 < len(listing(root)) < len(listing(tmp_path / "made"))
    assert get("ade150", root).images == {"val": 4}
    assert listing(root) == listing(tmp_path / "made")
    assert len(server.asked["/ADEChallengeData2016.zip"]) == 1
    assert in_archives_folder(root) == {
        "ADEChallengeData2016.zip.json",
        "ADEChallengeData2016.zip.done.json",
    }


def test_the_users_own_file_in_the_way_is_not_overwritten_by_a_folder(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    root = tmp_path / "root"
    root.mkdir()
    (root / "ADEChallengeData2016").write_text("mine")
    with pytest.raises(DownloadError, match="found a file; the archive has the other there"):
        get("ade150", root)
    assert (root / "ADEChallengeData2016").read_text() == "mine"
    (root / "ADEChallengeData2016").unlink()
    assert get("ade150", root).images == {"val": 4}


@pytest.mark.slow
def test_killed_while_unpacking_nothing_is_half_installed_and_the_next_run_completes(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = trees.ade(tmp_path / "made")
    top = tmp_path / "made/ADEChallengeData2016"
    for index in range(3_000):
        (top / "more").mkdir(exist_ok=True)
        (top / f"more/{index}.txt").touch()
    file = "ADEChallengeData2016.zip"
    catalogue(monkeypatch, server, "ade150", {file: zipped(tmp_path / "made", top.name)})
    root = tmp_path / "root"
    code = f"""
        from dataclasses import replace
        from fmbseg.datasets.catalogue import CATALOGUE
        from fmbseg.fetch import install
        entry = CATALOGUE["ade150"]
        there = replace(entry.archives[0], urls=({server.url(f"/{file}")!r},))
        CATALOGUE["ade150"] = replace(entry, archives=(there,))
        install("ade150", {str(root)!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if list(root.glob(f".archives/.{file}.tree.unpacking-*/{top.name}/more")):
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(list(root.glob(".archives/.*.unpacking-*"))) == 1
    assert listing(root) == set()
    assert get("ade150", root).images == {"val": 4}
    assert listing(root) == listing(tmp_path / "made")
    assert len(server.asked[f"/{file}"]) == 1
    assert in_archives_folder(root) == {f"{file}.json", f"{file}.done.json"}
    samples = load("ade150", root, "val")
    for sample in (samples[i] for i in range(len(samples))):
        wanted = np.where(raw[sample.name] == 0, 255, raw[sample.name].astype(int) - 1)
        assert (sample.target == wanted).all()
