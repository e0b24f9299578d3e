"""Archives made to write elsewhere, to fill the disk or to pass for something else."""

import gzip
import io
import random
import tarfile
import zipfile
import zlib

import pytest

from fmbseg.store import ArchiveError, archives, extract_archive
from tests.support.packed import (
    FILES,
    PACKERS,
    contents,
    limited,
    refused,
    save,
    special,
    tar_bytes,
    tar_of,
    zip_of,
    zip_special,
)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x.png", "../x.png", "a/../../x.png", "a/..", "..\\x.png", "a\\b.png", "C:x.png",
        "C:/x.png", "//server/share/x.png", "a\nb.png", "a\x1b[31m.png", "a\u202egnp.exe",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_or_cannot_be_shown_are_refused(tmp_path, name, kind):
    data = zip_of({"good.png": b"", name: b"x"}) if kind == "zip" else tar_bytes("good.png", name)
    refused(tmp_path, data, "is refused .its name (leads out|holds control)")


def test_a_zip_name_cut_by_a_null_character_is_refused(tmp_path):
    data = zip_of({"aaaaa.png": b"x"}).replace(b"aaaaa.png", b"a.png\0aaa")
    refused(tmp_path, data, "control characters")


def test_a_tar_name_that_is_not_utf8_is_refused_and_shown(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as bundle:
        bundle.addfile(tarfile.TarInfo("a\udcff.png"))
    data = buffer.getvalue()
    refused(tmp_path, data, r"a\\\\xff.png' is refused .its name is not UTF-8")


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "a link"),
        (tarfile.SYMTYPE, "a.png", "a link"),
        (tarfile.SYMTYPE, "..", "a link"),
        (tarfile.LNKTYPE, "a.png", "a link"),
        (tarfile.FIFOTYPE, "", "device, FIFO"),
        (tarfile.CHRTYPE, "", "device, FIFO"),
        (tarfile.BLKTYPE, "", "device, FIFO"),
        (b"Z", "", "device, FIFO"),
    ],
)
def test_links_devices_and_fifos_in_a_tar_are_refused(tmp_path, kind, target, words):
    refused(tmp_path, tar_bytes("a.png", special("b.png", kind, target)), f"b.png.*{words}")


def test_a_file_below_a_link_of_the_same_archive_is_never_written(tmp_path):
    (tmp_path / "out").mkdir()
    link = special("door", tarfile.SYMTYPE, str(tmp_path))
    refused(tmp_path, tar_bytes(link, "door/written.png"), "a link")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o140644])
def test_links_devices_and_fifos_in_a_zip_are_refused(tmp_path, mode):
    refused(tmp_path, zip_special(mode), "x.png' is refused .a (link|device)")


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zip_of({"a.png": b"x" * 50}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    refused(tmp_path, bytes(data), "a.png' is refused .encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names", [("a.png", "a.png"), ("a.png", "./a.png"), ("a", "a/b.png"), ("a/b.png", "a")]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_entries_of_one_name_are_refused(tmp_path, names, kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in names:
            bundle.writestr(name, b"x")
    data = buffer.getvalue() if kind == "zip" else tar_bytes(*names)
    refused(tmp_path, data, "two entries want to be called so")


def test_a_zip_over_the_limit_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "extract", None)
    data = zip_of({"a": bytes(600), "b": bytes(600)}, compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path, data, "more than 1.2 kB unpacked", max_bytes=1199)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_tar_over_the_limit_is_refused_and_removed(tmp_path, kind):
    data = PACKERS[kind](tar_of({"a": bytes(600), "b": bytes(600)}))
    refused(tmp_path, data, "more than 1.2 kB unpacked", max_bytes=1199)
    with limited(1200):
        assert extract_archive(tmp_path / "some.archive", tmp_path / "o") == ["a", "b"]


def test_a_bomb_in_a_tar_is_stopped_at_its_header(tmp_path):
    bomb = gzip.compress(tar_of({"zeros": bytes(50_000_000)}))
    refused(tmp_path, bomb, "more than 1.0 MB", max_bytes=10**6)


def test_a_header_that_asks_for_all_memory_is_damage(tmp_path):
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 7 * 10**9
    refused(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + bytes(5000), "header of 7000")


def test_zip_headers_that_promise_less_than_there_is_are_caught(tmp_path):
    data = bytearray(zip_of({"a.png": bytes(5000)}, compression=zipfile.ZIP_DEFLATED))
    for start, offset in ((0, 22), (data.index(b"PK\1\2"), 24)):
        data[start + offset : start + offset + 4] = (10).to_bytes(4, "little")
    refused(tmp_path, bytes(data), "damaged", max_bytes=100)


def test_content_that_a_zip_header_hides_is_never_written(tmp_path):
    """Even where the checksum is that of the few bytes the header promises."""
    data = bytearray(zip_of({"a.png": bytes(5_000_000)}, compression=zipfile.ZIP_DEFLATED))
    for start, offset in ((0, 14), (data.index(b"PK\1\2"), 16)):
        data[start + offset : start + offset + 4] = zlib.crc32(bytes(4)).to_bytes(4, "little")
        data[start + offset + 8 : start + offset + 12] = (4).to_bytes(4, "little")
    with limited(4):
        extract_archive(save(tmp_path, bytes(data)), tmp_path / "out")
    assert (tmp_path / "out/a.png").stat().st_size == 4


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    refused(tmp_path, tar_bytes(*[f"{i}.png" for i in range(11)]), "more than 10 files")


@pytest.mark.parametrize("kind", ["zip", *PACKERS])
def test_bytes_changed_at_random_never_crash_nor_write_outside(tmp_path, kind):
    rng = random.Random(1)
    sound = zip_of(FILES) if kind == "zip" else PACKERS[kind](tar_of(FILES))
    for trial in range(60):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        target = tmp_path / "in" / str(trial)
        try:
            extract_archive(save(tmp_path, bytes(data)), target)
        except ArchiveError:
            assert not target.exists()
        else:
            assert kind in ("zip", "tar") or contents(target) == FILES  # those hold checksums
    assert {p.name for p in tmp_path.iterdir()} <= {"some.archive", "in"}
    assert all(p.name.isdigit() for p in (tmp_path / "in").glob("*"))


def test_a_name_too_long_for_the_disk_is_an_error_with_the_entry(tmp_path):
    refused(tmp_path, tar_bytes("x" * 300 + ".png"), "xxx.png' cannot be written")
