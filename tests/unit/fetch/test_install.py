"""`install` and `fmbseg download`: official trees in archives, served on loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmbseg.cli import main
from fmbseg.datasets import load
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.fetch import DownloadError
from fmbseg.steps.evaluation_sets import open_evaluation_set
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import read_classes
from tests.support import official_trees as trees
from tests.support.archive_server import catalogue, get, in_archives_folder, listing, tarred, zipped
from tests.support.http_server import FileServer, file_server


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


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
    for sample in (samples[i] for i in range(len(samples))):
        assert sample.target is not None
        assert (sample.target == raw[sample.name]).all()
    assert read_classes(root / "voc21.classes.txt").names == CATALOGUE["voc20"].classes.names
    assert in_archives_folder(root) == {f"{file}.json", f"{file}.done.json"}
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
        samples = load("context59", root, "val")
        found[kind] = [samples[i].target for i in range(len(samples))]
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
    text = (Path(__file__).parents[3] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("data/benchmarks", "elsewhere/sets"))
    workspace = Workspace.open(tmp_path)
    assert main(["download", "ade150", "--params", str(tmp_path / "params.yaml")]) == 0
    assert len(open_evaluation_set(workspace, "ade150").samples) == 4


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
