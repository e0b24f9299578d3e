"""`install` and `fmbseg download`: official trees in archives, served on loopback."""

import hashlib
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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fmbseg.cli import main
from fmbseg.datasets import load
from fmbseg.datasets.catalogue import CATALOGUE, Archive
from fmbseg.fetch import DownloadError, install
from fmbseg.steps.columns import open_column
from fmbseg.steps.workspace import Workspace
from fmbseg.store import ArchiveError, DiskFullError
from fmbseg.vocabulary import read_classes
from tests import official_trees as trees
from tests.http_server import FileServer, file_server


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("fmbseg.fetch.mirrors.MIRRORS", {})


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def zipped(folder: Path, *tops: str) -> bytes:
    """These folders and files below `folder`, as a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for top in tops:
            found = folder / top
            for path in [found] if found.is_file() else sorted(found.rglob("*")):
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


def tarred(folder: Path, *tops: str, mode: str = "w") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for top in tops:
            archive.add(folder / top, top)
    return content.getvalue()


def catalogue(
    monkeypatch: pytest.MonkeyPatch, server: FileServer, name: str,
    contents: dict[str, bytes | None], *, published: bool = True, **how: object,
) -> None:  # fmt: skip
    """Let the catalogue's entry name archives on the server; None stands for a dead address."""

    def redirected(archive: Archive) -> Archive:
        content = contents.get(archive.file_name)
        path = f"/{archive.file_name}"
        server.paths.pop(path, None)
        url = server.url(path) if content is None else server.serve(path, content, **how)
        plain = replace(archive, url=url, size_bytes=None, md5=None, sha256=None, about_bytes=None)
        if content is None:
            return plain
        plain = replace(plain, about_bytes=len(content))
        if not published:
            return plain
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        return replace(plain, size_bytes=len(content), md5=md5, sha256=sha256)

    entry = CATALOGUE[name]
    archives = tuple(redirected(archive) for archive in entry.archives)
    monkeypatch.setitem(CATALOGUE, name, replace(entry, archives=archives))


def get(name: str, root: Path, **options: object):
    return install(name, root, progress=False, **options)  # type: ignore[arg-type]


def listing(root: Path) -> set[str]:
    """Every file below a root, but for what lies on the shelf, and class files."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return {one for one in found if not one.startswith(".archives/") and "classes.txt" not in one}


def on_shelf(root: Path) -> set[str]:
    names = {path.name for path in (root / ".archives").iterdir()}
    return {name for name in names if not name.endswith("lock")}


def test_the_command_installs_voc_and_load_reads_it(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    raw = trees.voc2012(tmp_path / "made")
    file = "VOCtrainval_11-May-2012.tar"
    catalogue(monkeypatch, server, "voc21", {file: tarred(tmp_path / "made", "VOCdevkit")})
    root = tmp_path / "root"
    assert main(["download", "--list", "voc21", "--root", str(root)]) == 0
    assert "absent" in capsys.readouterr().out
    arguments = ["download", "voc21", "--root", str(root), "--split", "train", "val"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "train 1 images, val 4 images" in out
    assert "Flickr" in out
    assert "val: found 4 images; published are 1449" in out
    samples = load("voc21", root, "val")
    assert len(samples) == 4
    for sample in samples:
        assert sample.target is not None
        assert (sample.target == raw[sample.name]).all()
    assert read_classes(root / "voc21.classes.txt").names == CATALOGUE["voc20"].classes.names
    assert on_shelf(root) == {f"{file}.json", f"{file}.done.json"}
    assert main(arguments) == 0
    assert len(server.asked[f"/{file}"]) == 1
    assert main(["download", "--list", "voc21", "--root", str(root)]) == 0
    assert "present, 4 images" in capsys.readouterr().out


def test_two_archives_share_folders_and_a_second_split_adds_its_own(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.coco_stuff164k(tmp_path / "made")
    images = tmp_path / "made/coco_stuff164k/images"
    contents = {
        "val2017.zip": zipped(images, "val2017"),
        "train2017.zip": zipped(images, "train2017"),
        "stuffthingmaps_trainval2017.zip": zipped(
            tmp_path / "made/coco_stuff164k/annotations", "val2017", "train2017"
        ),
    }
    catalogue(monkeypatch, server, "coco_stuff171", contents)
    root = tmp_path / "root"
    assert get("coco_stuff171", root).images == {"val": 4}
    assert set(server.asked) == {"/val2017.zip", "/stuffthingmaps_trainval2017.zip"}
    assert get("coco_stuff171", root, splits=["train", "val"]).images == {"train": 1, "val": 4}
    assert listing(root) == listing(tmp_path / "made")
    assert {path: len(asked) for path, asked in server.asked.items()} == {
        "/val2017.zip": 1, "/train2017.zip": 1, "/stuffthingmaps_trainval2017.zip": 1
    }  # fmt: skip


def test_context_is_converted_from_whichever_archive_can_be_had(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    from fmbseg.datasets.context import IDS_OF_459

    made = tmp_path / "made"
    ids = sorted(IDS_OF_459.values())
    trees.context_published(made, ids, json_file=True, mats=True)
    top = made / "VOCdevkit/VOC2010"
    mats, merged = tarred(top, "trainval", mode="w:gz"), (top / "trainval_merged.json")
    text = merged.read_bytes()
    shutil.rmtree(top / "trainval")
    merged.unlink()
    images = tarred(made, "VOCdevkit")
    found = {}
    for kind in ("json", "mats"):
        contents = {
            "VOCtrainval_03-May-2010.tar": images,
            "trainval_merged.json": text if kind == "json" else None,
            "trainval.tar.gz": mats,
        }
        catalogue(monkeypatch, server, "context59", contents)
        root = tmp_path / kind
        assert get("context59", root, splits=["train", "val"]).images == {"train": 2, "val": 2}
        found[kind] = [sample.target for sample in load("context59", root, "val")]
        asked = len(server.asked["/trainval.tar.gz"])
        assert asked == (kind == "mats")
        get("context59", root, splits=["train", "val"])
        assert len(server.asked["/trainval.tar.gz"]) == asked
    assert "trying trainval.tar.gz instead" in capsys.readouterr().out
    for one, other in zip(found["json"], found["mats"], strict=True):
        assert (one[1:] == other[1:]).all()  # the first row of the .mat files holds other numbers


def test_cityscapes_wants_the_users_own_zips_and_says_how(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    made, own, root = tmp_path / "made", tmp_path / "own", tmp_path / "root"
    trees.cityscapes(made)
    (made / "README").write_text("in both")
    own.mkdir()
    assert main(["download", "cityscapes19", "--root", str(root)]) == 2
    words = capsys.readouterr().err
    for part in ("account", "https://www.cityscapes-dataset.com/", "leftImg8bit_trainvaltest.zip",
                 "gtFine_trainvaltest.zip", "fmbseg download cityscapes19 --zips"):  # fmt: skip
        assert part in words
    images = own / "leftImg8bit_trainvaltest.zip"
    images.write_bytes(zipped(made, "leftImg8bit", "README"))
    with pytest.raises(DownloadError, match=r"own lacks gtFine_trainvaltest\.zip"):
        get("cityscapes19", root, zips=own)
    labels = own / "gtFine_trainvaltest.zip"
    labels.write_bytes(zipped(made, "gtFine", "README"))
    before = {path: path.read_bytes() for path in (images, labels)}
    assert main(["download", "cityscapes19", "--root", str(root), "--zips", str(own)]) == 0
    assert listing(root) == listing(made)
    assert len(load("cityscapes19", root, "val")) == 4
    assert before == {path: path.read_bytes() for path in (images, labels)}
    assert get("cityscapes19", root).images == {"val": 4}, "needs no zips any more"


def test_a_users_zip_is_checked_like_a_fetched_one(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.voc2012(tmp_path / "made")
    file = "VOCtrainval_11-May-2012.tar"
    content = tarred(tmp_path / "made", "VOCdevkit")
    catalogue(monkeypatch, server, "voc21", {file: content})
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / file).write_bytes(content[:-1])
    with pytest.raises(DownloadError, match=rf"found {len(content) - 1} bytes.* again, from http"):
        get("voc21", tmp_path / "root", zips=tmp_path / "own")
    assert listing(tmp_path / "root") == set()
    (tmp_path / "own" / file).write_bytes(content)
    assert get("voc21", tmp_path / "root", zips=tmp_path / "own").images == {"val": 4}
    assert not server.asked


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
    assert on_shelf(root) == (set() if own else {f"{file}.bad"})
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
    assert on_shelf(root) == {"ADEChallengeData2016.zip.json", "ADEChallengeData2016.zip.done.json"}


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
        there = replace(entry.archives[0], url={server.url(f"/{file}")!r})
        CATALOGUE["ade150"] = replace(entry, archives=(there,))
        install("ade150", {str(root)!r}, progress=False)
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
    assert on_shelf(root) == {f"{file}.json", f"{file}.done.json"}
    for sample in load("ade150", root, "val"):
        wanted = np.where(raw[sample.name] == 0, 255, raw[sample.name].astype(int) - 1)
        assert (sample.target == wanted).all()


def test_a_mirror_the_user_names_is_tried_first(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    server.serve("/copy/ADEChallengeData2016.zip", content)
    get("ade150", tmp_path / "root", mirrors=[server.url("/copy/")])
    assert set(server.asked) == {"/copy/ADEChallengeData2016.zip"}


def test_data_sets_go_where_the_evaluation_looks_for_them(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trees.ade(tmp_path / "made")
    content = zipped(tmp_path / "made", "ADEChallengeData2016")
    catalogue(monkeypatch, server, "ade150", {"ADEChallengeData2016.zip": content})
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("data/benchmarks", "elsewhere/sets"))
    workspace = Workspace.open(tmp_path)
    assert main(["download", "ade150", "--params", str(tmp_path / "params.yaml")]) == 0
    assert len(open_column(workspace, "ade150").samples) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["voc99"], "unknown data set 'voc99'; wanted one of voc21, voc20"),
        (["voc21", "--split", "test"], "unknown split 'test'"),
        ([], "nothing named"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["download", *arguments, "--root", str(tmp_path / "root")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_offline_the_command_refuses_with_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FMBSEG_OFFLINE", "1")
    monkeypatch.setattr("fmbseg.store.space.free_bytes", lambda folder: 10**12)
    assert main(["download", "voc21", "--root", str(tmp_path)]) == 2
    assert "FMBSEG_OFFLINE is set" in capsys.readouterr().err


def test_the_list_names_every_data_set_with_size_terms_and_presence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["download", "--list", "--root", str(tmp_path / "root")]) == 0
    out = capsys.readouterr().out
    for entry in CATALOGUE.values():
        assert f"{entry.name}: {entry.title}" in out
        assert entry.licence in out
    assert "to fetch 20.0 GB" in out
    assert out.count("an account is needed") == 2
    assert not (tmp_path / "root").exists()
