"""Label maps and masks as pictures."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import (
    colourise,
    legend,
    overlay,
    save_label_png,
    save_png,
    with_legend,
)
from fmbseg.pictures.layers import INK_RGB, _eroded, compose, layer_png, map_layer, masks_layer
from fmbseg.types import IGNORE, PseudoMask, SamMask, Stage
from tests.support.masks import encode_rle

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


@pytest.mark.parametrize(("count", "least"), [(20, 20), (60, 9), (171, 5)])
def test_any_two_classes_differ_by_a_distance_that_eyes_tell(count: int, least: float) -> None:
    """CIELAB distance (CIE76); about 2.3 is just noticeable side by side."""
    lab = cielab(palette(count).astype(float))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1e9 * np.eye(count)
    assert apart.min() >= least


def cielab(rgb: np.ndarray) -> np.ndarray:
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    white = np.array([0.95047, 1.0, 1.08883])
    xyz = linear @ to_xyz.T / white
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def test_a_layer_keeps_its_pixels_in_a_small_file_with_many_colours_too() -> None:
    image = np.full((64, 96, 3), 7, np.uint8)
    half = np.zeros((64, 96), bool)
    half[10:50, 20:70] = True
    few = masks_layer([pseudo(half, 3, "1.1")], (64, 96), COLOURS)
    many = map_layer(np.arange(300).reshape(15, 20), palette(300))
    for layer in (few, many):
        read = np.asarray(PilImage.open(io.BytesIO(layer_png(layer))).convert("RGBA"))
        clear = layer[..., 3] == 0
        assert np.array_equal(read[..., 3], layer[..., 3])
        assert np.array_equal(read[~clear], layer[~clear])
    assert len(layer_png(few)) < image.nbytes / 10


def test_masks_keep_their_place_at_another_size() -> None:
    inside = np.zeros((20, 30), bool)
    inside[5:15, 10:20] = True
    layer = masks_layer([pseudo(inside, 0, "1.2")], (20, 30), COLOURS, size_hw=(60, 90))
    rows, columns = np.nonzero(layer[..., 3])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 44, 30, 59)


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


def test_what_is_drawn_over_a_picture_has_the_palette_s_colours_and_nothing_between() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    labels = np.zeros((300, 400), np.uint8)
    labels[:, 130:], labels[40:200, 200:], labels[250:] = 1, 2, IGNORE
    before = image.copy()
    drawn = overlay(image, labels, COLOURS)
    assert np.array_equal(image, before)
    changed = (drawn != image).any(-1)
    allowed = {tuple(c) for c in COLOURS[:3].tolist()} | {INK_RGB}
    assert {tuple(c) for c in drawn[changed].tolist()} == allowed
    assert not changed[250:].any(), "pixels without a class show the picture"
    for index in range(3):
        inside = labels == index
        rim = inside & ~_eroded(inside, 3)
        assert (drawn[rim] == COLOURS[index]).all(), "an opaque outline of 3 px or more"
        assert 0.5 < (~changed[_eroded(inside, 6)]).mean() < 0.95, "the picture shows between"


@pytest.mark.usefixtures("unchecked")
def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="label map is 3x4 px, its image 4x3"):
        overlay(np.zeros((4, 3, 3), np.uint8), LABELS, COLOURS)
    with pytest.raises(ValueError, match="mask of 'class 1'"):
        masks_layer([pseudo(np.ones((3, 4), bool), 1, "1.2")], (4, 3), COLOURS)


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
    drawn = compose(image, masks_layer(masks, (40, 60), COLOURS))
    plain = compose(image, masks_layer(masks, (40, 60), COLOURS, points=False))
    assert (plain[15, 10:20] == COLOURS[0]).all(), "the small mask's outline"
    assert (plain[5, 5:50] == COLOURS[1]).all()
    assert not (plain[16:24, 11:19] == COLOURS[1]).all(-1).any(), "none of what lies below"
    assert (plain[2, 2] == 128).all()
    assert (drawn[10, 30] == 255).all()
    assert (plain[10, 30] != 255).any()
    assert not masks_layer(masks[:1], (40, 60), COLOURS)[10, 30].any()


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
