"""`fetch` against a server on loopback that breaks off, lies, changes and refuses."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fmbseg.fetch import DownloadError, transfer
from fmbseg.store import DiskFullError
from tests.support.fetched_files import CONTENT, CUT, MD5, OTHER, SHA256, get, names
from tests.support.http_server import FileServer, file_server
from tests.support.small_disk import mounted


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def test_a_file_is_fetched_checked_and_recorded(server: FileServer, tmp_path: Path):
    file = tmp_path / "a.zip"
    record = get(file, server.serve("/a.zip", CONTENT), md5=MD5, sha256=SHA256, size_bytes=10**6)
    assert file.read_bytes() == CONTENT
    assert names(tmp_path) == {"a.zip", "a.zip.json"}
    assert json.loads((tmp_path / "a.zip.json").read_text()) == vars(record)
    assert (record.sha256, record.checked_with) == (SHA256, "md5 sha256 size")


def test_what_is_there_and_good_is_not_asked_for_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = server.serve("/a.zip", CONTENT)
    first = get(tmp_path / "a.zip", url)
    monkeypatch.setenv("FMBSEG_OFFLINE", "1")
    assert get(tmp_path / "a.zip", url) == first
    assert len(server.asked["/a.zip"]) == 1


@pytest.mark.parametrize(
    "validator", [{"etag": '"x"'}, {"etag": 'W/"x"', "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_a_cut_download_goes_on_where_it_was(
    server: FileServer, tmp_path: Path, validator: dict[str, str]
):
    file = tmp_path / "a.zip"
    url = server.serve("/a.zip", CONTENT, cuts=[CUT], **validator)
    with pytest.raises(DownloadError, match=r"ended before .*400 kB are kept and gone on with"):
        get(file, url)
    assert names(tmp_path) == {"a.zip.part", "a.zip.part.json"}
    assert server.sent["/a.zip"] == CUT
    get(file, url)
    assert file.read_bytes() == CONTENT
    assert server.sent["/a.zip"] == len(CONTENT)
    asked = server.asked["/a.zip"][1]
    assert asked["Range"] == f"bytes={CUT}-"
    assert asked["If-Range"] == validator.get("modified", '"x"')
    assert names(tmp_path) == {"a.zip", "a.zip.json"}


def test_one_run_outlasts_cuts_timeouts_and_a_busy_server(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT, cuts=[CUT, 100], statuses=[503, 429])
    get(tmp_path / "a", url, attempts=5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.sent["/a"] == len(CONTENT)


def test_a_server_without_ranges_is_asked_for_all_of_it(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT, cuts=[CUT], ranges=False)
    get(tmp_path / "a", url, attempts=2)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.sent["/a"] == CUT + len(CONTENT)


def test_without_etag_date_and_checksum_nothing_is_gone_on_with(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT, cuts=[CUT], etag=None)
    get(tmp_path / "a", url, attempts=2)
    assert "Range" not in server.asked["/a"][1]
    server.serve("/b", CONTENT, cuts=[CUT], etag=None)
    get(tmp_path / "b", server.url("/b"), attempts=2, md5=MD5)
    assert server.asked["/b"][1]["Range"] == f"bytes={CUT}-"
    assert server.sent["/b"] == len(CONTENT)


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: FileServer, tmp_path: Path, heeds: bool
):
    url = server.serve("/a", CONTENT, cuts=[CUT])
    with pytest.raises(DownloadError):
        get(tmp_path / "a", url)
    server.serve("/a", OTHER, etag='"two"', heeds_if_range=heeds)
    get(tmp_path / "a", url, attempts=2)
    assert (tmp_path / "a").read_bytes() == OTHER


def test_another_address_of_the_same_bytes_goes_on_with_a_part(server: FileServer, tmp_path: Path):
    broken = server.serve("/broken", CONTENT, cuts=[CUT, 0, 0])
    mirror = server.serve("/mirror", CONTENT, etag='"elsewhere"')
    get(tmp_path / "a", broken, mirror, attempts=2, sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.sent["/mirror"] == len(CONTENT) - CUT


def test_a_truncated_body_is_told_and_never_takes_the_name(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT[:CUT], claimed=len(CONTENT), ranges=False)
    with pytest.raises(DownloadError, match=r"ended before the file did, 3 times \(400 kB"):
        get(tmp_path / "a", url, attempts=3)
    assert not (tmp_path / "a").exists()
    assert len(server.asked["/a"]) == 3


def test_a_wrong_checksum_is_kept_aside(server: FileServer, tmp_path: Path):
    url = server.serve("/a.zip", OTHER)
    for wanted in ({"md5": MD5}, {"sha256": SHA256}):
        with pytest.raises(DownloadError) as caught:
            get(tmp_path / "a.zip", url, **wanted)
        (kind, value), words = next(iter(wanted.items())), str(caught.value)
        assert f"found {kind} {hashlib.new(kind, OTHER).hexdigest()}" in words
        assert f"wanted {value}, as published" in words
        assert "a.zip.bad" in words
    assert names(tmp_path) == {"a.zip.bad"}


def test_a_wrong_size_is_refused_before_the_body_is_read(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT + b"x")
    with pytest.raises(DownloadError, match="has a file of 1000001 bytes; wanted 1000000"):
        get(tmp_path / "a", url, size_bytes=10**6)
    silent = server.serve("/b", CONTENT + OTHER, claimed=-1)
    with pytest.raises(DownloadError, match="more than 1000000 bytes"):
        get(tmp_path / "b", silent, size_bytes=10**6)


def test_without_a_published_checksum_the_first_download_is_the_measure(
    server: FileServer, tmp_path: Path
):
    file, url = tmp_path / "a", server.serve("/a", CONTENT)
    assert get(file, url).checked_with == ""
    file.unlink()
    server.serve("/a", OTHER)
    with pytest.raises(DownloadError, match=rf"wanted {SHA256}, as first fetched on 20"):
        get(file, url)
    assert names(tmp_path) == {"a.json", "a.bad"}
    (tmp_path / "a.json").unlink()
    get(file, url)
    assert file.read_bytes() == OTHER


def test_a_file_that_was_damaged_since_is_fetched_again(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file, url = tmp_path / "a", server.serve("/a", CONTENT)
    get(file, url)
    file.write_bytes(CONTENT[:-1] + b"!")
    get(file, url)
    assert file.read_bytes() == CONTENT
    assert "a.bad" in capsys.readouterr().err


def test_a_server_that_falls_silent_is_given_up(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "TIMEOUTS_S", (1.0, 0.2))
    url = server.serve("/a", CONTENT, chunk_pause_s=30)
    with pytest.raises(DownloadError, match="sends nothing any more"):
        get(tmp_path / "a", url)


def test_offline_nothing_is_fetched(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FMBSEG_OFFLINE", "1")
    with pytest.raises(DownloadError, match="FMBSEG_OFFLINE is set"):
        get(tmp_path / "a", server.serve("/a", CONTENT))
    assert not server.asked


def test_too_small_a_disk_is_told_before_the_body_is_read(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = server.serve("/a", CONTENT)
    monkeypatch.setattr("fmbseg.store.space.free_bytes", lambda folder: 999_999)
    with pytest.raises(DiskFullError, match=r"a needs about 1\.0 MB in .* 1\.0 MB are free"):
        get(tmp_path / "a", url)
    assert "a" not in names(tmp_path)


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_and_the_download_goes_on_once_there_is_room(
    server: FileServer, tmp_path: Path
):
    """The server does not say how much is to come, so nothing can be looked at before."""
    url = server.serve("/a", CONTENT, claimed=-1)
    with mounted(tmp_path / "disk", 8) as disk:
        if disk is None:
            pytest.skip("no disk can be mounted here")
        code = f"""
            from fmbseg.fetch import Remote, fetch
            fetch(Remote(({url!r},), sha256={SHA256!r}), "{disk.inside}/a")
        """
        command = [*disk.prefix, sys.executable, "-c", textwrap.dedent(code)]
        disk.leave(600_000)
        first = subprocess.run(command, check=False, capture_output=True, text=True)
        assert "a could not be written" in first.stderr
        assert "the disk is full" in first.stderr
        assert "run again" in first.stderr
        have = (disk.outside / "a.part").stat().st_size
        assert 0 < have < len(CONTENT)
        assert not (disk.outside / "a").exists()
        disk.empty()
        subprocess.run(command, check=True)
        assert (disk.outside / "a").read_bytes() == CONTENT
        assert server.asked["/a"][-1]["Range"] == f"bytes={have}-"


@pytest.mark.slow
def test_a_killed_download_goes_on_in_the_next_process(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT, chunk_pause_s=0.1)
    code = f"""
        from fmbseg.fetch import Remote, fetch
        fetch(Remote(({url!r},)), {str(tmp_path / "a")!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    part = tmp_path / "a.part"
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size >= 2**18) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    assert not (tmp_path / "a").exists()
    server.serve("/a", CONTENT)
    get(tmp_path / "a", url)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.asked["/a"][-1]["Range"] == f"bytes={have}-"


def test_two_at_once_fetch_a_file_once(server: FileServer, tmp_path: Path):
    url = server.serve("/a", CONTENT, chunk_pause_s=0.02)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(get, tmp_path / "a", url) for _ in range(2)]
    assert both[0].result() == both[1].result()
    assert server.sent["/a"] == len(CONTENT)
