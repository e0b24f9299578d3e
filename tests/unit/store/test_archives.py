import bz2
import gzip
import io
import lzma
import os
import random
import sys
import tarfile
import zipfile
import zlib
from unittest import mock

import pytest

from fmbseg.store import ArchiveError, DiskFullError, archives, extract_archive

FILES = {"a.png": b"first" * 3000, "sub/größe 1.png": b"", "sub/deep/b.jpg": bytes(range(256)) * 9}
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


def tar_bytes(*members, content=b"x"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for member in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
                member.size = len(content)
            bundle.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as bundle:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_special(mode, name="x.png", content=b"/etc/passwd"):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(info, content)
    return buffer.getvalue()


def save(tmp_path, data, name="some.archive"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def limited(max_bytes):
    return mock.patch.object(archives, "MAX_ARCHIVE_BYTES", max_bytes)


def refused(tmp_path, data, words, max_bytes=10**9):
    """Refused with these words, nothing written outside, nothing left behind."""
    path = save(tmp_path, data)
    with pytest.raises(ArchiveError, match=words) as caught, limited(max_bytes):
        extract_archive(path, tmp_path / "out/into")
    assert "\n" not in str(caught.value)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert left <= {"some.archive", "out"}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def test_a_folder_may_be_named_twice(tmp_path):
    folder = special("sub", tarfile.DIRTYPE)
    path = save(tmp_path, tar_bytes(folder, "sub/a.png", folder))
    assert extract_archive(path, tmp_path / "out") == ["sub/a.png"]


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


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("fmbseg.store.space.free_bytes", lambda folder: 1000)
    data = zip_of({"a": bytes(1001)}) if kind == "zip" else tar_of({"a": bytes(1001)})
    path = save(tmp_path, data)
    with pytest.raises(DiskFullError, match=r"needs about 1.0 kB in .*1.0 kB are free"):
        extract_archive(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["some.archive"]


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    refused(tmp_path, tar_bytes(*[f"{i}.png" for i in range(11)]), "more than 10 files")


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
