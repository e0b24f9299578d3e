import hashlib
import re

import pytest
from torchvision.models import _meta

from fmbseg.datasets.catalogue import CATALOGUE

COLUMNS = {"PV-21", "PV-20", "PC-59", "CO-80", "CS-171", "City", "ADE"}


def test_every_column_of_the_paper_has_a_data_set():
    assert {entry.column for entry in CATALOGUE.values()} - {None} == COLUMNS
    for name, entry in CATALOGUE.items():
        assert entry.name == name
        assert len(entry.classes.names) == int(re.search(r"\d+$", name).group())
        assert entry.title
        assert entry.licence
        assert entry.home.startswith("http")
        assert dict(entry.splits).keys() >= {"train", "val"}


def test_every_archive_can_be_fetched_checked_and_placed():
    for entry in CATALOGUE.values():
        assert entry.needed(["val"])
        names = [archive.file_name for archive in entry.archives]
        for archive in entry.archives:
            assert re.match(r"https?://[\w.-]+\.\w+/", archive.urls[0])
            assert archive.login or archive.urls[0].endswith("/" + archive.file_name)
            assert not archive.unpack_to.startswith("/")
            assert archive.size_bytes in (None, archive.about_bytes)
            assert archive.md5 is None or re.fullmatch("[0-9a-f]{32}", archive.md5)
            assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256)
            assert {*archive.splits} <= {*dict(entry.splits)}
            assert archive.instead_of in ("", *names)
            assert archive.login == entry.name.startswith("cityscapes")


def test_a_split_needs_its_own_archives_alone():
    stuff = CATALOGUE["coco_stuff171"]
    assert [archive.file_name for archive in stuff.needed(["val"])] == [
        "val2017.zip", "stuffthingmaps_trainval2017.zip"
    ]  # fmt: skip
    assert [archive.file_name for archive in stuff.needed(["train"])] == [
        "train2017.zip", "stuffthingmaps_trainval2017.zip"
    ]  # fmt: skip
    context = CATALOGUE["context59"].needed(["train", "val"])
    assert [archive.file_name for archive in context] == [
        "VOCtrainval_03-May-2010.tar", "trainval_merged.json"
    ]  # fmt: skip
    assert [archive.file_name for archive in CATALOGUE["voc21"].needed(["trainval"])] == [
        "VOCtrainval_11-May-2012.tar"
    ]


@pytest.mark.parametrize(
    ("name", "val"),
    [("voc21", 1449), ("coco_stuff171", 5000), ("cityscapes19", 500), ("ade150", 2000)],
)
def test_split_sizes_are_the_published_ones(name: str, val: int):
    assert dict(CATALOGUE[name].splits)["val"] == val


def test_names_of_voc_and_coco_are_those_that_torchvision_ships():
    voc, coco = _meta._VOC_CATEGORIES, _meta._COCO_CATEGORIES
    assert CATALOGUE["voc20"].classes.names == tuple(voc[1:])
    assert CATALOGUE["voc21"].classes.names == ("background", *voc[1:])
    things = tuple(name for name in coco[1:] if name != "N/A")
    assert CATALOGUE["coco_things80"].classes.names == things
    assert CATALOGUE["coco_stuff171"].classes.names[:80] == things


@pytest.mark.parametrize(
    ("name", "digest"),
    [("ade150", "f9dbd8a75a0722c9"), ("coco_stuff171", "8ea44449837dceb3"),
     ("context59", "cd808465f06a1616")],
)  # fmt: skip
def test_the_names_stay_those_that_were_compared_with_mmsegmentations(name: str, digest: str):
    """Context's by name, since mmsegmentation changed their order; "bed " without its space."""
    text = "\n".join(CATALOGUE[name].classes.names)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
