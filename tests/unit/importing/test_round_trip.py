"""Export, edits in the tool's own format, import: exactly the edits arrive, in every format."""

from typing import get_args

import numpy as np
import pytest

from fmbseg.export.formats import FORMATS
from fmbseg.export.settings import Imported
from fmbseg.importing.readers import READERS
from tests.support.edited_exports import TOOLS, Masks, exported
from tests.support.export_images import CLASSES, box, decoded, labels_of, many_images

every = pytest.mark.parametrize("kind", sorted(READERS))
ROAD, CAR, TREE, SKY = CLASSES
PLAIN, RING = "plain.png", "with space/it's <i>.png"
SPECKLED, PARTS = 'images/a "quote" & 道路.png', "a.b/two.parts.png"


def test_what_exports_promise_to_come_back_can_be_imported_and_is_tested():
    assert {name for name, one in FORMATS.items() if one.comes_back} == set(READERS)
    assert set(TOOLS) == set(READERS) == set(get_args(Imported))


@every
def test_an_export_that_nobody_edited_gives_nothing(tmp_path, kind):
    plan = exported(kind, tmp_path).take()
    submitted = 0 if kind == "label-studio" else 7  # where predictions are nobody's work
    assert (plan.read, plan.same, plan.corrections) == (submitted, submitted, {})


@every
def test_an_export_that_was_only_opened_and_saved_gives_nothing(tmp_path, kind):
    one = exported(kind, tmp_path)
    one.edit({})
    plan = one.take()
    assert (plan.same, plan.corrections) == (7, {})


@every
def test_exactly_the_edits_arrive_and_a_second_import_changes_nothing(tmp_path, kind):
    one = exported(kind, tmp_path)
    _, wide, whole = (inside for _, inside in reversed(one.masks(RING)))
    (_, parts), (_, speckled) = one.masks(PARTS)[0], one.masks(SPECKLED)[-1]
    edits: dict[str, Masks] = {
        PLAIN: [(CAR, box(10, 10, 14, 27)), (SKY, box(0, 0, 24, 20))],  # relabelled
        RING: [(ROAD, whole), (SKY, wide)],  # the ring deleted
        SPECKLED: [(SKY, box(0, 0, 3, 37)), (TREE, speckled), (CAR, box(20, 20, 4, 9))],  # added
        PARTS: [(TREE, parts & box(0, 0, 24, 12)), (TREE, parts & ~box(0, 0, 24, 12))],  # split
        "same.png": [(ROAD, box(3, 3, 10, 14))],  # redrawn
        "nothing.png": [(TREE, box(0, 0, 1, 1))],
    }
    one.edit(edits)
    plan = one.take()
    assert plan.read == 7
    maps = not FORMATS[kind].overlaps
    assert set(plan.corrections) == set(edits) - ({PARTS} if maps else set())
    for name in plan.corrections:
        found = one.saved(name)
        assert found.accepted
        assert (found.revision, found.history[-1].by, found.history[-1].tool) == (1, "anna", kind)
        regions = [(r.class_name, decoded(r.rle)) for r in found.regions]
        assert np.array_equal(painted(regions), painted(edits[name][::-1])), name
        if maps:
            was = painted(one.masks(name)[::-1])
            for region in found.regions:
                index = CLASSES.index(region.class_name)
                left = set((was[decoded(region.rle)] == index).tolist())
                assert left == {region.origin != "person"}, "what was left has its origin"
            continue
        assert [label for label, _ in regions] == [label for label, _ in edits[name][::-1]]
        before = {(label, inside.tobytes()): r for (label, inside), r in
                  zip(one.masks(name)[::-1], one.images[name].regions, strict=True)}  # fmt: skip
        for region, (label, inside) in zip(found.regions, regions, strict=True):
            left_alone = before.get((label, inside.tobytes()))
            expected = ("person", None) if left_alone is None else (
                left_alone.origin, left_alone.score
            )  # fmt: skip
            assert (region.origin, region.score) == expected, name
    if not maps:
        assert plan.changes == {"relabelled": 1, "deleted": 1, "added": 3, "redrawn": 2}
    again = one.take()
    assert (again.corrections, again.known) == ({}, len(plan.corrections))
    assert all(one.saved(name).revision == 1 for name in plan.corrections)


def painted(masks: Masks) -> np.ndarray:
    """Label map of masks, the first one on top."""
    return labels_of([(inside, CLASSES.index(label)) for label, inside in masks])


@every
def test_more_edits_of_an_imported_export_arrive_and_so_does_going_back(tmp_path, kind):
    one = exported(kind, tmp_path)
    first = [(CAR, box(0, 0, 9, 9))]
    one.edit({"same.png": first})
    one.take()
    one.edit({"same.png": [*first, (SKY, box(20, 20, 2, 2))]})
    assert set(one.take().corrections) == {"same.png"}
    assert one.saved("same.png").revision == 2
    one.edit({})
    plan = one.take()
    found = one.saved("same.png")
    assert set(plan.corrections) == {"same.png"}
    assert [(r.class_name, r.origin) for r in found.regions] == [(ROAD, "1.1")]
    assert [change.what for change in found.history][-1] == "as it was"


@every
def test_300_classes_come_back(tmp_path, kind):
    names, images = many_images(tmp_path / "long")
    one = exported(kind, tmp_path, images=images, names=names)
    one.edit({})
    assert one.take().same == 1
    masks = one.masks("long.png")
    masks[-1] = (names[299], masks[-1][1])
    one.edit({"long.png": masks})
    plan = one.take()
    assert set(plan.corrections) == {"long.png"}
    labels = np.full((1, 301), -1)
    for region in reversed(one.saved("long.png").regions):
        labels[decoded(region.rle)] = names.index(region.class_name)
    assert labels[0].tolist() == [299, *range(1, 300), -1]


@every
def test_an_image_of_which_all_is_deleted_becomes_an_empty_correction(tmp_path, kind):
    one = exported(kind, tmp_path)
    one.edit({PLAIN: []})
    assert one.take().changes == {"deleted": 2}
    assert one.saved(PLAIN).regions == ()


@every
def test_all_or_none_may_become_accepted(tmp_path, kind):
    one = exported(kind, tmp_path)
    one.edit({PLAIN: []})
    one.take(accept="none")
    assert not one.saved(PLAIN).accepted
    assert set(one.take(accept="all").corrections) == set(one.images)
    for name in one.images:
        found = one.saved(name)
        assert found.accepted
        assert name == PLAIN or all(region.origin != "person" for region in found.regions)


@every
def test_renamed_classes_go_by_their_own_names_and_merged_ones_are_refused_where_changed(
    tmp_path, kind
):
    one = exported(kind, tmp_path, ["auto=" + CAR, "green=" + TREE + "=" + SKY, ROAD], "rest")
    one.edit({})
    assert one.take().same == 7
    one.edit({PLAIN: [("auto", box(0, 0, 9, 9))]})
    one.take()
    assert [r.class_name for r in one.saved(PLAIN).regions] == [CAR]
    assert one.saved(PLAIN).class_names == (CAR, TREE, SKY, ROAD)
    one.edit({PARTS: [("green", box(0, 0, 9, 9))]})
    (words,) = one.plan().refused.values()
    assert "which stands for" in words
    assert "Export without merging" in words


@every
def test_a_region_of_the_class_of_what_has_no_label_takes_labels_away(tmp_path, kind):
    one = exported(kind, tmp_path, unlabelled="rest")
    masks = one.masks(PLAIN)
    one.edit({PLAIN: [*masks, ("rest", box(0, 0, 24, 10))]})
    one.take()
    regions = [(r.class_name, decoded(r.rle)) for r in one.saved(PLAIN).regions]
    expected = painted(masks[::-1])
    expected[:, :10] = -1
    assert np.array_equal(painted(regions), expected)
