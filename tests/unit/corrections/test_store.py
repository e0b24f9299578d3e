"""Corrections are on the disk as they were given, and no two people overwrite one another."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from fmbseg.corrections.store import (
    Change,
    ConflictError,
    CorrectedRegion,
    Correction,
    corrected_images,
    correction_file,
    correction_shas,
    now,
    read_correction,
    read_corrections,
    save_correction,
)
from fmbseg.store import StoreError, encode_rles


def a_correction(image="street/a b.jpg", **values):
    inside = np.zeros((6, 9), bool)
    inside[1:3, 2:7] = True
    region = CorrectedRegion("<b>straße</b>", encode_rles(inside[None])[0], "person")
    change = Change("anna", now(), "review", "car instead of bus", 1.5)
    given = {"regions": (region,), "accepted": True, "history": (change,)} | values
    return Correction(image, "ab" * 32, (6, 9), ("car", "<b>straße</b>"), **given)


def test_what_is_saved_is_read_again(tmp_path):
    saved = save_correction(tmp_path, a_correction())
    assert saved == replace(a_correction(), history=saved.history, revision=1)
    assert read_correction(tmp_path, "street/a b.jpg") == saved
    again = save_correction(tmp_path, saved.changed(saved.history[0], accepted=False))
    assert (again.revision, again.accepted, len(again.history)) == (2, False, 2)
    save_correction(tmp_path, a_correction("b.png", regions=()))
    assert corrected_images(tmp_path) == ["b.png", "street/a b.jpg"]
    assert [one.image for one in read_corrections(tmp_path)] == ["b.png", "street/a b.jpg"]
    assert list(correction_shas(tmp_path)) == ["b.png", "street/a b.jpg"]
    assert read_correction(tmp_path, "never.png") is None


def test_of_two_who_read_the_same_the_second_is_refused(tmp_path):
    first = save_correction(tmp_path, a_correction())
    save_correction(tmp_path, first)
    before = correction_file(tmp_path, first.image).read_bytes()
    with pytest.raises(ConflictError, match="found revision 2; wanted 1"):
        save_correction(tmp_path, first)
    with pytest.raises(ConflictError, match="found revision 2; wanted 0"):
        save_correction(tmp_path, a_correction())
    assert correction_file(tmp_path, first.image).read_bytes() == before


def test_of_many_at_once_one_wins(tmp_path):
    outcomes = []

    def save(name):
        try:
            change = Change(name, now(), "review", "accepted")
            outcomes.append(save_correction(tmp_path, a_correction(history=(change,))))
        except ConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=save, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [one for one in outcomes if one]
    assert read_correction(tmp_path, won.image) == won


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../../b.jpg", "c:\\a.jpg", ""])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(StoreError, match="wanted one below the folder"):
        read_correction(tmp_path, name)


def test_a_mask_that_does_not_fit_is_refused(tmp_path):
    other = encode_rles(np.ones((1, 9, 6), bool))[0]
    empty = encode_rles(np.zeros((1, 6, 9), bool))[0]
    for rle in (other, empty):
        with pytest.raises(StoreError, match="wanted at least one pixel of"):
            save_correction(
                tmp_path, a_correction(regions=(CorrectedRegion("car", rle, "person"),))
            )
    assert corrected_images(tmp_path) == []


@pytest.mark.parametrize("content", ["{}", "[1]", '{"format": "coco"}', "{"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "a.jpg.json").write_text(content)
    with pytest.raises(StoreError, match=r"a\.jpg\.json: "):
        read_correction(tmp_path, "a.jpg")
