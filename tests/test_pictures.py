"""Label maps and masks as pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg.evaluate.colours import palette
from fmbseg.evaluate.pictures import (
    colourise,
    legend,
    masks_picture,
    overlay,
    save_label_png,
    save_png,
    with_legend,
)
from fmbseg.store import encode_rle
from fmbseg.types import IGNORE, PseudoMask, SamMask, Stage

COLOURS = palette(4)
LABELS = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, IGNORE, IGNORE]], np.uint8)


def pseudo(inside: np.ndarray, class_index: int, stage: Stage) -> PseudoMask:
    mask = SamMask(encode_rle(inside), int(inside.sum()), (0, 0, 1, 1), 0.9, 0.9, ((30.0, 10.0),))
    return PseudoMask("a.png", class_index, f"class {class_index}", stage, 0.3, mask)


def test_colours_differ_and_do_not_depend_on_how_many_classes_there_are() -> None:
    assert len(np.unique(palette(300), axis=0)) == 300
    assert np.array_equal(palette(300)[:7], palette(7))
    assert palette(0).shape == (0, 3)
    assert np.array_equal(palette(513)[512], palette(1)[0])


def test_no_class_has_the_grey_of_ignored_pixels() -> None:
    spread = palette(512).astype(int).max(1) - palette(512).min(1)
    assert spread.min() > 12  # the hatch's two greys have 4 and 6


def test_callers_cannot_spoil_the_palette() -> None:
    palette(3)[:] = 0
    assert palette(3).any()


def test_every_pixel_has_the_colour_of_its_class() -> None:
    picture = colourise(LABELS, COLOURS)
    for y in range(3):
        for x in range(4):
            if LABELS[y, x] == IGNORE:
                assert picture[y, x].max() < 120
            else:
                assert (picture[y, x] == COLOURS[LABELS[y, x]]).all()


def test_wide_integer_labels_are_drawn_alike() -> None:
    assert np.array_equal(colourise(LABELS.astype(np.int64), COLOURS), colourise(LABELS, COLOURS))


def test_a_label_without_colour_is_named() -> None:
    with pytest.raises(ValueError, match=r"\[3\] have no colour: the palette has 3"):
        colourise(LABELS, COLOURS[:3])
    with pytest.raises(ValueError, match="-1"):
        colourise(LABELS.astype(np.int32) * -1, COLOURS)


def test_overlay_mixes_by_alpha_and_leaves_its_input_alone() -> None:
    image = np.full((3, 4, 3), 200, np.uint8)
    mixed = overlay(image, LABELS, COLOURS, alpha=0.25, outline=False)
    expected = 0.75 * 200 + 0.25 * colourise(LABELS, COLOURS).astype(float)
    assert np.abs(mixed - expected).max() <= 0.5001
    assert (image == 200).all()


def test_outline_darkens_borders_only() -> None:
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 3:] = 1
    image = np.full((4, 6, 3), 200, np.uint8)
    plain = overlay(image, labels, COLOURS, outline=False)
    drawn = overlay(image, labels, COLOURS)
    changed = (plain != drawn).any(-1)
    assert changed[:, 3].all()
    assert changed.sum() == 4


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="label map is 3x4 px, its image 4x3"):
        overlay(np.zeros((4, 3, 3), np.uint8), LABELS, COLOURS)
    with pytest.raises(ValueError, match="mask of 'class 1'"):
        masks_picture(
            np.zeros((4, 3, 3), np.uint8), [pseudo(np.ones((3, 4), bool), 1, "1.2")], COLOURS
        )


def test_legend_shows_only_what_is_present() -> None:
    names = ["sky", "a name far too long for such a narrow legend", "sea", "sand"]
    sheet = legend(names, COLOURS, [2, 1, IGNORE, 2], width_px=160)
    assert sheet.shape[1] == 160
    shown = [bool((sheet == colour).all(-1).any()) for colour in COLOURS]
    assert shown == [False, True, True, False]
    assert legend(names, COLOURS, []).shape[0] > 0


def test_legend_stands_below_the_picture() -> None:
    picture = np.full((50, 40, 3), 7, np.uint8)
    sheet = with_legend(picture, ["sky"], COLOURS, [0])
    assert (sheet[:50, 140:180] == 7).all()
    assert (sheet[50:] == COLOURS[0]).all(-1).any()
    assert with_legend(np.zeros((9, 700, 3), np.uint8), ["sky"], COLOURS, [0]).shape[1] == 700


def test_small_masks_are_drawn_on_top_and_points_for_stage_11_only() -> None:
    image = np.full((40, 60, 3), 128, np.uint8)
    large, small = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    large[5:35, 5:50], small[15:25, 10:20] = True, True
    masks = [pseudo(small, 0, "1.2"), pseudo(large, 1, "1.1")]
    drawn = masks_picture(image, masks, COLOURS)
    plain = masks_picture(image, masks, COLOURS, points=False)
    assert (
        np.abs(plain[20, 15].astype(int) - COLOURS[0]).sum()
        < np.abs(plain[20, 15].astype(int) - COLOURS[1]).sum()
    )
    assert (plain[2, 2] == 128).all()
    assert (drawn[10, 30] == 255).all()
    assert (plain[10, 30] != 255).any()
    assert np.array_equal(masks_picture(image, masks[:1], COLOURS)[10, 30], image[10, 30])


def test_png_files_hold_the_pixels(tmp_path: Path) -> None:
    picture = colourise(LABELS, COLOURS)
    save_png(tmp_path / "deep" / "a.png", picture)
    assert np.array_equal(np.asarray(PilImage.open(tmp_path / "deep" / "a.png")), picture)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]


def test_label_png_holds_the_labels_and_shows_the_colours(tmp_path: Path) -> None:
    save_label_png(tmp_path / "a.png", LABELS.astype(np.int32), COLOURS)
    read = PilImage.open(tmp_path / "a.png")
    assert read.mode == "P"
    assert np.array_equal(np.asarray(read), LABELS)
    assert (np.asarray(read.convert("RGB"))[1, 1] == COLOURS[2]).all()
    with pytest.raises(ValueError, match="256 classes"):
        save_label_png(tmp_path / "b.png", LABELS, palette(256))
