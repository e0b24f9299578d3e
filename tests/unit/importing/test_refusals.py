"""What cannot be meant is listed, and nothing is written; nothing is half-imported."""

import base64
import json
import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from fmbseg.corrections import store
from fmbseg.corrections.store import Change, now, save_correction
from fmbseg.export.labelled import ExportError
from fmbseg.export.record import ExportRecord
from fmbseg.importing import saving
from fmbseg.importing.edited import EditError
from fmbseg.importing.saving import finish, imported_before, save_all
from fmbseg.store import StoreError
from tests.support.edited_exports import Exported, exported, png
from tests.support.export_images import CLASSES, box, decoded, hard_images

PLAIN = "plain.png"


def shape(kind: str, points: object, **more: object) -> dict[str, object]:
    return {"label": CLASSES[0], "shape_type": kind, "points": points, **more}


def with_shapes(one: Exported, *shapes: object, **more: object) -> None:
    """plain.png with other shapes in LabelMe's file."""
    path = one.out / "train/plain.json"
    content = json.loads(path.read_text()) | {"shapes": shapes} | more
    path.write_text(json.dumps(content))


def refusal(one: Exported) -> str:
    plan = one.plan()
    assert not plan.corrections
    assert list(plan.refused) == ["train/plain"]
    return plan.refused["train/plain"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (shape("line", [[0, 0], [9, 9]]), "found a line of 'road'"),
        (shape("polygon", [[0, 0], [9, 9]]), "wanted 3 or more pairs"),
        (shape("polygon", [[0, 0], [9, 9], [1e9, 0]]), "far outside of an image of 37 x 24 px"),
        (shape("polygon", [[0, 0], [9, 9], ["a", 0]]), "a shape without corners"),
        (shape("circle", None), "a shape without corners"),
        (shape("mask", [[0, 0], [9, 9]], mask="%"), "that is no PNG"),
        (shape("mask", [[0, 0], [9, 9]], mask=""), "cannot be read"),
        (shape("mask", [[5, 5], [4, 4]], mask=""), "without a box"),
        ({"label": 3}, "without a label"),
        ({"label": "raod", "points": [[0, 0], [9, 9]], "shape_type": "rectangle"},
         "found the class 'raod'; wanted one of the export, such as 'road'"),
    ],
)  # fmt: skip
def test_a_shape_that_is_no_mask_of_a_class_refuses_its_image(tmp_path, given, words):
    one = exported("labelme", tmp_path)
    with_shapes(one, given)
    assert words in refusal(one)


def test_a_mask_that_would_not_fit_into_memory_is_refused_undecoded(tmp_path):
    one = exported("labelme", tmp_path)
    huge = base64.b64encode(png(np.zeros((3000, 3000), np.uint8))).decode()
    with_shapes(one, shape("mask", [[0, 0], [9, 9]], mask=huge))
    assert "9000000" not in refusal(one)
    assert "cannot be read (3000x3000 px is more" in refusal(one)


def test_labels_of_another_size_are_refused(tmp_path):
    one = exported("labelme", tmp_path)
    with_shapes(one, imageHeight=37, imageWidth=24)
    assert refusal(one) == "found labels of 24 x 37 px; wanted 37 x 24 px"


def test_unknown_images_are_refused_with_the_nearest_name(tmp_path):
    one = exported("labelme", tmp_path)
    shutil.move(one.out / "train/plain.json", one.out / "train/palin.json")
    plan = one.plan()
    assert plan.refused == {"train/palin": "no image of the export; nearest: 'plain.png'"}


def test_an_image_that_has_gone_or_is_another_picture_is_refused(tmp_path):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: []})
    shas = dict(one.target.shas)
    for sha, words in ((None, "no such image"), ("0" * 64, "another picture of that name")):
        found = {**shas, PLAIN: sha} if sha else {k: v for k, v in shas.items() if k != PLAIN}
        changed = replace(one, target=replace(one.target, shas=found))
        assert f"found {words} in the workspace" in refusal(changed)


def test_a_class_that_the_workspace_has_no_more_is_refused(tmp_path):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: [(CLASSES[1], box(0, 0, 5, 5))]})
    fewer = replace(one, target=replace(one.target, class_names=[CLASSES[0]]))
    assert "which the workspace has no more" in refusal(fewer)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no whole JSON"), (b"{", "no whole JSON"), (b"\xff\xfe\0", "no whole JSON"),
        (b"[" * 100_000, "no whole JSON"), (b"[1]", "wanted a JSON object"),
        (b'{"images": [], "annotations": []}', "wanted a JSON file that LabelMe saved"),
        (b"<annotations/>", "no whole JSON"),
    ],
)  # fmt: skip
def test_a_broken_or_foreign_file_is_one_clear_error_and_changes_nothing(tmp_path, content, words):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: []})
    (one.out / "zzz.json").write_bytes(content)
    with pytest.raises(EditError, match=words):
        one.take()
    assert one.saved(PLAIN) is None


def test_a_record_that_was_edited_or_is_missing_is_an_error(tmp_path):
    one = exported("labelme", tmp_path)
    path = one.out / "exported.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"score":0.75', b'"score":0.85'))
    with pytest.raises(ExportError, match="was changed since it was exported"):
        ExportRecord(one.out)
    path.unlink()
    with pytest.raises(ExportError, match=r"found no exported\.jsonl.*--export"):
        ExportRecord(one.out)


def test_labelmes_shapes_are_filled_as_labelme_fills_them(tmp_path):
    one = exported("labelme", tmp_path)
    with_shapes(
        one,
        shape("rectangle", [[20, 12], [30, 3]]),
        shape("polygon", [[2, 2], [12, 2], [12, 8], [2, 8]]),
        shape("circle", [[8, 16], [8, 20]]),
        shape("oriented_rectangle", [[30, 15], [33, 18], [30, 21], [27, 18]]),
        shape(
            "mask",
            [[-2, -1], [1, 1]],
            mask=base64.b64encode(png(np.eye(3, 4, 2, np.uint8))).decode(),
        ),
    )
    one.take()
    found = [decoded(r.rle) for r in one.saved(PLAIN).regions][::-1]
    assert np.array_equal(found[0], box(3, 20, 10, 11))
    assert np.array_equal(found[1], box(2, 2, 7, 11))
    rows, columns = np.mgrid[:24, :37]
    away = np.hypot(rows - 16, columns - 8)
    assert found[2][away <= 3.4].all()
    assert not found[2][away >= 4.6].any()
    diamond = abs(rows - 18) + abs(columns - 30) <= 3
    assert np.array_equal(found[3], diamond)
    assert np.argwhere(found[4]).tolist() == [[0, 1]], "what lies outside is cut off"


def test_a_correction_made_elsewhere_since_the_export_is_a_conflict(tmp_path):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: [], "same.png": []})
    one.take()
    rle = one.images[PLAIN].regions[0].rle
    theirs = one.saved(PLAIN).changed(
        Change("bert", now(), "review", "1 added"),
        regions=(store.CorrectedRegion(CLASSES[3], rle, "person"),),
    )
    save_correction(one.target.folder, theirs)
    plan = one.take()
    assert (plan.known, plan.conflicts) == (2, {}), "nothing new to import"
    one.edit({PLAIN: [(CLASSES[3], box(0, 0, 4, 4))]})
    plan = one.take()
    assert list(plan.conflicts) == [PLAIN]
    assert "corrected since by bert (review, " in plan.conflicts[PLAIN]
    assert set(plan.corrections) == {"same.png"}
    assert one.saved(PLAIN).revision == 2
    again = one.take(overwrite=True)
    assert set(again.corrections) == {PLAIN}
    assert [change.by for change in one.saved(PLAIN).history] == ["anna", "bert", "anna"]
    assert one.saved(PLAIN).revision == 3


def test_an_export_of_corrections_may_be_edited_and_one_of_masks_beside_them_not(tmp_path):
    images = hard_images(tmp_path / "photographs")
    for name, revision, conflict in (("of corrections", 1, False), ("of masks", 0, True)):
        shown = [replace(one, revision=revision) for one in images]
        one = exported("labelme", tmp_path / name, images=shown)
        region = store.CorrectedRegion(CLASSES[0], images[0].regions[0].rle, "person")
        mine = store.Correction(
            PLAIN, one.target.shas[PLAIN], (24, 37), CLASSES, (region,), True,
            (Change("bert", now(), "review", "redrawn"),),
        )  # fmt: skip
        save_correction(one.target.folder, mine)
        one.edit({PLAIN: []})
        assert (PLAIN in one.take().conflicts) == conflict


def test_a_correction_that_says_what_was_exported_is_no_conflict_whatever_its_revision(tmp_path):
    one = exported("labelme", tmp_path)
    one.take(accept="all")
    found = one.saved(PLAIN)
    accepted = Change("bert", now(), "review", "accepted")
    save_correction(one.target.folder, found.changed(accepted))
    one.edit({PLAIN: []})
    plan = one.take()
    assert (list(plan.corrections), plan.conflicts) == ([PLAIN], {})
    assert [change.by for change in one.saved(PLAIN).history] == ["anna", "bert", "anna"]


@pytest.mark.parametrize("moment", range(10))
def test_a_kill_between_any_two_writes_is_finished_by_the_next_call(
    tmp_path, moment, monkeypatch: pytest.MonkeyPatch
):
    one = exported("labelme", tmp_path)
    edits = {name: [(CLASSES[2], box(2, 2, 3, 3))] for name in (PLAIN, "same.png", "same.jpg")}
    one.edit(edits)
    writes = 0

    def killed(name):
        real = getattr(module, name)

        def write(*arguments, **options):
            nonlocal writes
            writes += 1
            if writes == moment + 1:
                raise KeyboardInterrupt
            result = real(*arguments, **options)
            writes += 1
            if writes == moment + 1:
                raise KeyboardInterrupt
            return result

        return write

    plan = one.plan()
    with monkeypatch.context() as patch:
        for module in (store, saving):
            patch.setattr(module, "write_json", killed("write_json"))
        with pytest.raises(KeyboardInterrupt):
            save_all(one.target.folder, ExportRecord(one.out).sha, list(plan.corrections.values()))
    begun = moment > 0
    assert finish(one.target.folder) == []
    saved = {name for name in edits if one.saved(name)}
    assert saved == (set(edits) if begun else set()), "all of it or nothing"
    again = one.take()
    assert again.known == len(saved)
    assert all(one.saved(name).revision == 1 for name in edits)
    assert not [p for p in one.target.folder.iterdir() if p.name == ".importing.json"]


@pytest.mark.parametrize("name", [".importing.json", ".imported.json"])
def test_damaged_notes_of_an_import_are_named(tmp_path, name):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: []})
    for content in ("{", "[1]", '{"export": {"a": 1}}'):
        (one.target.folder / name).write_text(content)
        with pytest.raises(StoreError, match=name):
            imported_before(one.target.folder, "export") or finish(one.target.folder)


def test_what_somebody_saves_between_check_and_write_is_left_alone(tmp_path):
    one = exported("labelme", tmp_path)
    one.edit({PLAIN: [], "same.png": []})
    plan = one.plan()
    theirs = plan.corrections[PLAIN].changed(Change("bert", now(), "review", "accepted"))
    save_correction(one.target.folder, theirs)
    sha = ExportRecord(one.out).sha
    refused = save_all(one.target.folder, sha, list(plan.corrections.values()))
    assert refused == [PLAIN]
    assert one.saved(PLAIN).history[-1].by == "bert"
    assert one.saved("same.png") is not None
    assert PLAIN in one.plan().conflicts or one.plan().known


def test_the_picture_of_a_mask_is_read_by_its_numbers_not_its_colours(tmp_path):
    one = exported("labelme", tmp_path)
    picture = PIL.Image.fromarray(np.eye(3, dtype=np.uint8)).convert("P")
    path = tmp_path / "mask.png"
    picture.save(path)
    mask = base64.b64encode(path.read_bytes()).decode()
    with_shapes(one, shape("mask", [[1, 1], [3, 3]], mask=mask))
    one.take()
    (region,) = one.saved(PLAIN).regions
    assert np.argwhere(decoded(region.rle)).tolist() == [[1, 1], [2, 2], [3, 3]]
