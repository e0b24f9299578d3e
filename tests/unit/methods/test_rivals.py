"""The rivals' formulas against slow references in float64, and what they do with a picture."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fmbseg.methods import corrclip, lposs, proxyclip, trident
from fmbseg.methods.affinity import on_grid
from fmbseg.methods.corrclip import CorrClipSegmentation
from fmbseg.methods.lposs import LpossSegmentation
from fmbseg.methods.proxyclip import ProxyClipSegmentation
from fmbseg.methods.sam_refinement import Refinement
from fmbseg.methods.trident import TridentSegmentation
from fmbseg.models.protocols import SamAttention
from tests.support.method_fakes import (
    NAMES,
    OPTIONS,
    BlindSam,
    ColourClip,
    ColourSam,
    ColourVision,
    image,
    truth,
)
from tests.support.whole_sam import WholeSam


def unit(count, dim, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return normalize(torch.from_numpy(rng.normal(shift, 1, (count, dim))).float(), dim=1)


def slow_attention(features, values):
    """ProxyCLIP's formula, a pair at a time."""
    count = len(features)
    cosines = [[float(a @ b) for b in features] for a in features]
    mean = sum(map(sum, cosines)) / count**2
    out = []
    for i in range(count):
        scores = [3.0 * (c - 1.2 * mean) for c in cosines[i]]
        weights = [np.exp(s) if s >= 0 or j == i else 0.0 for j, s in enumerate(scores)]
        out.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return torch.stack(out)


@pytest.mark.parametrize("shift", [0.0, 0.4, 3.0])  # at 3 nearly all cosines are one
def test_proxyclips_attention_equals_its_formula(shift, monkeypatch):
    monkeypatch.setattr(proxyclip, "_ROWS_AT_ONCE", 7)
    features, values = unit(25, 6, shift=shift), torch.randn(25, 5)
    wanted = slow_attention(features.double(), values.double())
    found = proxyclip.attend(features, values)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


def test_patches_that_are_all_the_same_keep_their_own_values():
    features = torch.ones(4, 1)
    values = torch.arange(8.0).reshape(4, 2)
    torch.testing.assert_close(proxyclip.attend(features, values), values)


def slow_scope(features, regions, values):
    """CorrCLIP's formula, a pair at a time."""
    count = len(features)
    cosines = [[float(a @ b) for b in features] for a in features]
    mean = sum(map(sum, cosines)) / count**2
    out = []
    for i in range(count):
        weights = []
        for j in range(count):
            if 0 in (regions[i], regions[j]):
                seen = cosines[i][j] > mean
            else:
                seen = regions[i] == regions[j]
            weights.append(np.exp(4.0 * cosines[i][j]) if seen or i == j else 0.0)
        out.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return torch.stack(out)


@pytest.mark.parametrize("shift", [0.0, 0.4, 3.0])
def test_corrclips_attention_equals_its_formula(shift, monkeypatch):
    monkeypatch.setattr(corrclip, "_ROWS_AT_ONCE", 7)
    features, values = unit(25, 6, shift=shift), torch.randn(25, 5)
    regions = torch.from_numpy(np.random.default_rng(3).integers(0, 4, 25))
    wanted = slow_scope(features.double(), regions.tolist(), values.double())
    found = corrclip.scoped(features, regions, values)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


def test_masks_that_look_alike_become_one_region_through_others_too():
    angles = torch.tensor([0.0, 35.0, 70.0, 150.0]).deg2rad()  # 35 degrees: 1 - cosine .18
    looks = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = torch.tensor([[0, 4, 9], [9, 2, 7]])
    of = {4: 0, 2: 1, 9: 2, 7: 3, 0: 3}
    features = torch.stack([torch.stack([looks[of[int(i)]] for i in row]) for row in ids])
    regions = corrclip.merged(ids, features)
    assert regions[0, 0] == 0, "no mask"
    assert regions[0, 1] == regions[1, 1] == regions[0, 2] == regions[1, 0] > 0
    assert regions[1, 2] not in (0, int(regions[0, 1])), "no path leads to it"
    apart = corrclip.merged(torch.where(ids == 2, 0, ids), features)
    assert apart[0, 1] != apart[0, 2], "the mask between them is gone"
    assert not corrclip.merged(torch.zeros_like(ids), features).any()


def test_corrclip_puts_right_what_a_mask_holds_in_the_minority():
    method = CorrClipSegmentation(ColourClip(), ColourVision(), ColourSam(), OPTIONS)
    found = method.segment(image(), NAMES, similarities=True)
    np.testing.assert_array_equal(found.labels, truth())
    np.testing.assert_array_equal(found.similarities.argmax(0), truth())
    blind = CorrClipSegmentation(ColourClip(), ColourVision(), BlindSam(), OPTIONS)
    wrong = (blind.segment(image(), NAMES).labels != truth()).sum()
    assert 0 < wrong < 8, "without masks the corners between three colours stay wrong"


def slow_aggregation(attention, values, given):
    """Trident's formula, a pair at a time."""
    count = len(values)
    unit = values / values.norm(dim=1, keepdim=True)
    cosines = [[float(a @ b) for b in unit] for a in unit]
    limit = min(0.9, 1.2 * sum(map(sum, cosines)) / count**2)
    out = []
    for i in range(count):
        weights = [
            float(attention[i][j]) if cosines[i][j] > limit or i == j else 0.0 for j in range(count)
        ]
        out.append(sum(w * v for w, v in zip(weights, given, strict=True)) / sum(weights))
    return torch.stack(out)


@pytest.mark.parametrize("shift", [0.0, 0.6, 4.0])  # at 4 the limit is .9
def test_tridents_mixing_by_sam_equals_its_formula(shift, monkeypatch):
    monkeypatch.setattr(trident, "_ROWS_AT_ONCE", 4)
    rng = np.random.default_rng(4)
    values = torch.from_numpy(rng.normal(shift, 1, (15, 6))).float()
    weights = torch.from_numpy(rng.random((15, 15)) / 20).float()  # rows sum to less than 1
    attention = SamAttention((3, 5), values, lambda some: weights[some])
    given = torch.randn(15, 2)
    wanted = slow_aggregation(weights.double(), values.double(), given.double())
    found = trident.aggregated(attention, given)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


def test_trident_draws_along_sams_edges():
    picture = image()
    picture[12:13] = picture[0, 0]  # the edge lies within patches
    wanted = truth()
    wanted[12:13] = 0
    small = Refinement(min_area_px=4, min_probability=0.05, temperature=0.1)
    parts = (ColourClip(), ColourVision(), ColourSam())
    coarse = TridentSegmentation(*parts, refinement=None).segment(picture, NAMES)
    assert (coarse.labels != wanted).any()
    found = TridentSegmentation(*parts, refinement=small).segment(picture, NAMES, similarities=True)
    np.testing.assert_array_equal(found.labels, wanted)
    np.testing.assert_array_equal(found.similarities.argmax(0), wanted)


def slow_affinity(features):
    rows, cols, _ = features.shape
    flat = features.reshape(rows * cols, -1)
    count = len(flat)
    one_way = np.zeros((count, count))
    for i in range(count):
        cosines = [-2.0 if j == i else float(flat[i] @ flat[j]) for j in range(count)]
        for j in sorted(range(count), key=lambda j: -cosines[j])[: lposs.NEIGHBOURS]:
            if j != i:
                far = 16 * np.hypot(i // cols - j // cols, i % cols - j % cols)
                one_way[i, j] = max(0.0, cosines[j]) ** 3 * np.exp(-0.01 * far)
    both = one_way + one_way.T
    root = np.sqrt(both.sum(1))
    return both / root[:, None] / root


def test_lposs_affinity_equals_its_formula_and_is_symmetric(monkeypatch):
    monkeypatch.setattr(lposs, "NEIGHBOURS", 7)
    features = unit(30, 8, seed=1, shift=0.5).reshape(5, 6, 8)
    found = lposs.affinity(features).toarray()
    np.testing.assert_allclose(found, slow_affinity(features.double().numpy()), atol=1e-5)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert not found.diagonal().any()
    assert np.abs(np.linalg.eigvalsh(found)).max() <= 1 + 1e-5, "so that the system is definite"


def test_lposs_solution_is_near_the_exact_one_after_its_few_steps():
    features = unit(30, 8, seed=2, shift=0.5).reshape(5, 6, 8)
    alike = lposs.affinity(features)
    first = np.random.default_rng(0).uniform(0.1, 0.3, (30, 3)).astype(np.float32)
    exact = 0.05 * np.linalg.solve(np.eye(30) - 0.95 * alike.toarray(), first)
    np.testing.assert_allclose(lposs.spread(alike, first), exact, rtol=1e-3)


def test_a_single_patch_has_no_neighbours():
    alike = lposs.affinity(torch.ones(1, 1, 3))
    found = lposs.spread(alike, np.array([[0.4, 0.2]], np.float32))
    np.testing.assert_allclose(found, [[0.02, 0.01]], rtol=1e-5)


@pytest.mark.parametrize("kind", [ProxyClipSegmentation, LpossSegmentation])
def test_rivals_label_a_picture_and_answer_scores_on_the_encoders_grid(kind):
    method = kind(ColourClip(), ColourVision())
    np.testing.assert_array_equal(method.segment(image(), NAMES).labels, truth())
    (grid,) = method.similarity_grids([image()], NAMES)
    assert grid.shape == (3, 6, 4)


def test_a_clip_without_values_is_refused_in_words():
    class Plain:
        dim = 3

        def encode_dense(self, image):
            raise AssertionError

        def encode_text(self, names, templates=None):
            raise AssertionError

    with pytest.raises(ValueError, match=r"proxyclip: found a CLIP .*Plain.* without values"):
        ProxyClipSegmentation(Plain(), ColourVision())
    with pytest.raises(ValueError, match=r"corrclip: found a CLIP .*Plain.* without values"):
        CorrClipSegmentation(Plain(), ColourVision(), ColourSam(), OPTIONS)
    with pytest.raises(ValueError, match=r"trident: found a CLIP .*Plain.* without values"):
        TridentSegmentation(Plain(), ColourVision(), ColourSam())


def test_a_sam_without_attention_is_refused_in_words():
    class Plain(WholeSam):
        grid_side = 8

        def embed(self, image):
            raise AssertionError

        def upscale(self, embedding, logits):
            raise AssertionError

    with pytest.raises(ValueError, match=r"trident: found a SAM \(Plain\) .* no attention"):
        TridentSegmentation(ColourClip(), ColourVision(), Plain())


def test_a_map_on_its_own_grid_stays_as_it_is():
    given = torch.randn(3, 4, 2)
    assert on_grid(given, (3, 4)) is given
    assert on_grid(given, (6, 8)).shape == (6, 8, 2)
