import itertools

import numpy as np
import pytest

from fmbseg.pseudo.patch_labels import label_map_of, patch_labels
from fmbseg.types import IGNORE, PseudoMask, SamMask
from tests.support.masks import encode_rle


def pseudo(pixels, class_index, stage="1.1", score=0.9, image="a.png"):
    sam = SamMask(encode_rle(pixels), int(pixels.sum()), (0.0, 0.0, 1.0, 1.0), score, 1.0, ())
    return PseudoMask(image, class_index, f"class {class_index}", stage, 0.5, sam)


def box(top, bottom, left, right, size_hw=(4, 6)):
    pixels = np.zeros(size_hw, bool)
    pixels[top:bottom, left:right] = True
    return pixels


def test_a_label_map_gives_each_pixel_one_label_by_stage_then_score_then_area():
    masks = [
        pseudo(box(0, 2, 0, 6), 0, "1.2", 0.99),
        pseudo(box(0, 4, 0, 2), 1, "1.1", 0.5),
        pseudo(box(1, 4, 1, 4), 2, "1.1", 0.7),
        pseudo(box(2, 4, 2, 6), 3, "1.2", 0.8),
        pseudo(box(3, 4, 4, 6), 4, "1.2", 0.8),
    ]
    expected = np.full((4, 6), IGNORE)
    for y, x in itertools.product(range(4), range(6)):
        ranked = []
        for mask, pixels in zip(
            masks,
            [
                box(0, 2, 0, 6),
                box(0, 4, 0, 2),
                box(1, 4, 1, 4),
                box(2, 4, 2, 6),
                box(3, 4, 4, 6),
            ],
            strict=True,
        ):
            if pixels[y, x]:
                ranked.append(
                    (mask.stage, -mask.mask.predicted_iou, pixels.sum(), mask.class_index)
                )
        if ranked:
            expected[y, x] = min(ranked)[-1]
    for order in itertools.permutations(masks):
        found = label_map_of(order, (4, 6))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
    assert set(np.unique(expected)) == {0, 1, 2, 3, 4}


def test_no_mask_means_no_label():
    assert (label_map_of([], (3, 2)) == IGNORE).all()


def test_class_254_has_a_label_and_255_is_refused():
    assert label_map_of([pseudo(box(0, 1, 0, 1), 254)], (4, 6))[0, 0] == 254
    with pytest.raises(ValueError, match="no label"):
        label_map_of([pseudo(box(0, 1, 0, 1), 255)], (4, 6))
    with pytest.raises(ValueError, match=r"wanted \[6, 4\]"):
        label_map_of([pseudo(box(0, 1, 0, 1), 3)], (6, 4))


@pytest.mark.parametrize("grid_hw", [(2, 3), (3, 2), (1, 1), (4, 6), (3, 4), (5, 8)])
def test_patch_labels_equal_a_count_of_finely_cut_pixels(grid_hw):
    rng = np.random.default_rng(7)
    label_map = rng.choice([0, 2, 254, IGNORE], (4, 6)).astype(np.uint8)
    rows, cols = grid_hw
    fine = np.kron(label_map, np.ones((rows, cols), np.uint8))  # cells: a whole number everywhere
    found = patch_labels(label_map, grid_hw)
    assert str(found.dtype) == "torch.uint8", "118,000 images of 37 x 37 patches take 160 MB"
    for r, c in itertools.product(range(rows), range(cols)):
        cells = fine[r * 4 : (r + 1) * 4, c * 6 : (c + 1) * 6]
        counts = {label: int((cells == label).sum()) for label in np.unique(cells)}
        winner = min(counts, key=lambda label: (-counts[label], label))
        assert found[r, c] == winner


def test_every_one_of_255_classes_reaches_the_patches():
    label_map = np.arange(255, dtype=np.uint8).reshape(15, 17).repeat(3, 0).repeat(2, 1)
    assert patch_labels(label_map, (15, 17)).flatten().tolist() == list(range(255))


def test_ignore_wins_a_patch_only_by_area():
    label_map = np.array([[IGNORE, IGNORE, 7, 7, IGNORE, IGNORE, IGNORE, 7]], np.uint8)
    assert patch_labels(label_map, (1, 2)).tolist() == [[7, IGNORE]]
