"""The small SAM: weights load upstream, masks follow the prompt, training resumes."""

import functools
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from fmbseg.miniature.world import generate
from fmbseg.models.sam_architecture import build_sam_from_config
from studies.miniature import train_sam as recipe
from studies.miniature.sam_losses import affinity_loss, find_masks, mask_loss, points_inside
from studies.miniature.training import run_training

WEIGHTS = Path(__file__).parents[3] / "fmbseg/miniature/weights/sam"


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    if not (WEIGHTS / "sam.safetensors").exists():
        pytest.skip(f"no weights in {WEIGHTS}; run `python -m studies.miniature sam`")
    return SamPredictor(recipe.load_sam(WEIGHTS))


def test_file_is_small_and_every_weight_is_finite(predictor: SamPredictor) -> None:
    assert (WEIGHTS / "sam.safetensors").stat().st_size <= 4_000_000
    assert all(torch.isfinite(value).all() for value in predictor.model.state_dict().values())


def test_upstream_predictor_gives_full_size_masks_that_hold_their_point(
    predictor: SamPredictor,
) -> None:
    hits = []
    for item in generate(0, 8, "val"):
        predictor.set_image(item.image)
        for x, y in ((20, 15), (100, 110), (64, 64)):
            masks, scores, low = predictor.predict(np.array([[x, y]]), np.array([1]))
            assert masks.shape == (3, 128, 128)
            assert low.shape == (3, 64, 64)
            hits.append(masks[scores.argmax(), y, x])
    assert np.mean(hits) > 0.8


def test_two_points_in_two_masks_give_two_masks(predictor: SamPredictor) -> None:
    overlaps = []
    for item in generate(0, 8, "val"):
        masks = find_masks(item.labels, item.instances.astype(np.uint8))
        predictor.set_image(item.image)
        two = np.argsort(masks.area_px)[-2:]
        points = points_inside(masks, two, 1, np.random.default_rng(0), noisy=False)
        found = []
        for point in points:
            several, scores, _ = predictor.predict(point, np.array([1]))
            found.append(several[scores.argmax()])
        overlaps.append((found[0] & found[1]).sum() / (found[0] | found[1]).sum())
    assert np.mean(overlaps) < 0.5


def test_decode_of_several_images_equals_the_upstream_decoder_one_by_one() -> None:
    torch.manual_seed(0)
    model = build_sam_from_config(recipe.CONFIG).eval()
    embedding = torch.randn(2, 64, 16, 16)
    tokens, dense = model.prompt_encoder((torch.rand(6, 2, 2) * 128, torch.ones(6, 2)), None, None)
    logits, quality = recipe.decode(model, embedding, tokens, dense)
    places = model.prompt_encoder.get_dense_pe()
    for i in range(2):
        rows = slice(3 * i, 3 * i + 3)
        wanted, wanted_quality = model.mask_decoder.predict_masks(
            embedding[i : i + 1], places, tokens[rows], dense[rows]
        )
        torch.testing.assert_close(logits[rows], wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(quality[rows], wanted_quality, rtol=1e-4, atol=1e-5)


def test_masks_tile_the_image_and_points_fall_inside() -> None:
    item = next(generate(3, 1, "val"))
    masks = find_masks(item.labels, item.instances.astype(np.uint8))
    assert masks.area_px.sum() == 128 * 128
    assert masks.is_thing.sum() == len(np.unique(item.instances)) - 1
    chosen = np.arange(len(masks.area_px))
    points = points_inside(masks, chosen, 5, np.random.default_rng(0), noisy=False).astype(int)
    for mask, five in zip(chosen, points, strict=True):
        assert all(masks.ids[y, x] == mask for x, y in five)


def test_losses_are_lowest_for_the_right_answer() -> None:
    wanted = torch.zeros(1, 4, 6)
    wanted[:, 1:3, 2:5] = 1
    right, wrong = 20 * (2 * wanted - 1), 20 * (1 - 2 * wanted)
    losses = mask_loss(torch.stack([right, wrong], dim=1), wanted)
    assert losses[0, 0] < 0.01 < 1 < losses[0, 1]
    shares = torch.stack([wanted, 1 - wanted], dim=1)
    assert affinity_loss(shares * 2 - 1, shares) < affinity_loss(torch.rand(1, 2, 4, 6), shares)


def test_a_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "run_training", functools.partial(run_training, save_every=1))

    def train(name: str) -> dict[str, torch.Tensor]:
        recipe.train_sam(
            tmp_path / name, tmp_path / f"{name}-weights", steps=3, pool_images=6,
            cache=tmp_path / "pool", evaluate_every=2,
        )  # fmt: skip
        resume = torch.load(tmp_path / name / "resume.pt", weights_only=True)
        weights: dict[str, torch.Tensor] = resume["model"]
        return weights

    with monkeypatch.context() as cut:
        cut.setattr(recipe, "evaluate_sam", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train("cut")
    monkeypatch.setattr(recipe, "evaluate_sam", Mock(return_value={}))
    resumed, whole = train("cut"), train("whole")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
