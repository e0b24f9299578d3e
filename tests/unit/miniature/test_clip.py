"""The miniature CLIP opens in open_clip, reads any text, and trains the same when interrupted."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from fmbseg.miniature.world import CLASS_NAMES, generate
from studies.miniature.clip_crops import CROP_PX, captioned_crops
from studies.miniature.clip_scores import SETTINGS, evaluate_clip, normalised, two_features
from studies.miniature.pool import load_pool
from studies.miniature.tokenizer import load_tokenizer, write_merges
from studies.miniature.train_clip import (
    clip_config,
    contrastive_step,
    encode_captions,
    shared_positive_loss,
)
from studies.miniature.training import run_training

WEIGHTS = Path(__file__).parents[3] / "fmbseg/miniature/weights/clip"
PROMPTS = [f'a photo of a "{name}"' for name in CLASS_NAMES]


@pytest.fixture
def tokenizer(tmp_path: Path) -> SimpleTokenizer:
    write_merges(tmp_path / "bpe.txt.gz")
    return load_tokenizer(tmp_path)


@pytest.fixture
def untrained(tokenizer: SimpleTokenizer) -> open_clip.CLIP:
    torch.manual_seed(0)
    return open_clip.CLIP(**clip_config(tokenizer.vocab_size)["model_cfg"])


def test_short_vocabulary_splits_its_words_as_the_full_one_does(tokenizer: SimpleTokenizer) -> None:
    full = SimpleTokenizer()
    for word in ("brick", "umbrella", "traffic", "refrigerator", "a"):
        assert tokenizer.bpe(word) == full.bpe(word)
    assert tokenizer.vocab_size < 3000


def test_any_text_survives_the_short_vocabulary(tokenizer: SimpleTokenizer) -> None:
    for text in ("a photo of a cat", "zyzzyva", "déjà vu", "猫"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text


def test_same_words_give_the_same_file(tmp_path: Path) -> None:
    assert write_merges(tmp_path / "a.txt.gz") == write_merges(tmp_path / "b.txt.gz")
    assert (tmp_path / "a.txt.gz").read_bytes() == (tmp_path / "b.txt.gz").read_bytes()


def test_captions_name_only_what_the_image_shows(tmp_path: Path) -> None:
    pool = load_pool(tmp_path, seed=0, count=4, split="val")
    for seed in range(5):
        crops, captions = captioned_crops(pool, np.random.default_rng(seed), 8)
        assert crops.shape == (8, CROP_PX, CROP_PX, 3)
        shown = {CLASS_NAMES[i] for i in np.unique(pool.labels)}
        for text in captions:
            assert {name for name in CLASS_NAMES if name in text} <= shown
            assert any(name in text for name in CLASS_NAMES)


def test_shared_positive_loss_equals_the_crop_by_crop_matrix() -> None:
    which = torch.tensor([0, 2, 1, 0, 0])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    total = torch.tensor(0.0)
    for matrix in (logits[:, which], logits[:, which].T):
        for i in range(5):
            same = [j for j in range(5) if which[j] == which[i]]
            log_probability = matrix[i].log_softmax(0)
            total = total - sum(log_probability[j] for j in same) / len(same) / 5 / 2
    assert torch.allclose(shared_positive_loss(logits, which), total, atol=1e-6)


def test_training_features_are_those_of_open_clip(
    untrained: open_clip.CLIP, tokenizer: SimpleTokenizer
) -> None:
    pixels, tokens = torch.randn(2, 3, 64, 64), tokenizer(PROMPTS)
    token, dense = two_features(untrained.visual, pixels, ("maskclip", "sclip", "naclip"))
    assert torch.allclose(token, untrained.visual(pixels), atol=1e-5)
    assert {features.shape for features in dense.values()} == {(2, 64, 128)}
    texts = untrained.encode_text(tokens, normalize=True)
    assert torch.allclose(encode_captions(untrained, tokens), texts, atol=1e-5)


def test_resumed_training_equals_an_undisturbed_one(
    tmp_path: Path, tokenizer: SimpleTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.miniature.train_clip.BATCH_CROPS", 4)
    pool = load_pool(tmp_path / "pool", seed=0, count=4, split="val")

    def train(folder: Path, stop_after: int = 3) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = open_clip.CLIP(**clip_config(tokenizer.vocab_size)["model_cfg"])
        inner = contrastive_step(model, pool, tokenizer, 3)

        def step(index: int, rng: np.random.Generator) -> torch.Tensor:
            if index == stop_after:
                raise KeyboardInterrupt
            return inner(index, rng)

        run_training(model, step, steps=3, seed=0, folder=folder, learning_rate=1e-3, save_every=1)
        weights: dict[str, torch.Tensor] = model.state_dict()
        return weights

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop_after=2)
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_patch_term_ends_after_its_share_of_the_steps(
    tmp_path: Path, tokenizer: SimpleTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.miniature.train_clip.BATCH_CROPS", 4)
    pool = load_pool(tmp_path / "pool", seed=0, count=4, split="val")
    model = open_clip.CLIP(**clip_config(tokenizer.vocab_size)["model_cfg"])
    step = contrastive_step(model, pool, tokenizer, 10)

    def loss(index: int, weight: float) -> float:
        monkeypatch.setattr("studies.miniature.train_clip.PATCH_WEIGHT", weight)
        torch.manual_seed(0)  # of the patches left out
        return float(step(index, np.random.default_rng(0)).detach())

    counts = [loss(index, 0.3) != loss(index, 0.0) for index in range(10)]
    assert counts == [True] * 3 + [False] * 7


@pytest.mark.weights
def test_shipped_weights_tell_all_sixteen_classes_apart() -> None:
    model = open_clip.create_model(f"local-dir:{WEIGHTS}").eval()
    tokenizer = load_tokenizer(WEIGHTS)
    assert model.vocab_size == tokenizer.vocab_size
    files = ("open_clip_model.safetensors", "open_clip_config.json", "bpe.txt.gz")
    assert sum((WEIGHTS / name).stat().st_size for name in files) < 4.5e6
    with torch.no_grad():
        texts = model.encode_text(tokenizer(PROMPTS), normalize=True)
        seen: dict[str, list[bool]] = {}
        for item in generate(1, 40, "val", thing_names=CLASS_NAMES[6:]):
            for i, thing in enumerate(item.things, start=1):
                ys, xs = np.nonzero(item.instances == i)
                side = min(max(np.ptp(xs), np.ptp(ys)) + 9, 128)
                left, top = (int(np.clip(v.mean() - side / 2, 0, 128 - side)) for v in (xs, ys))
                crop = normalised(item.image[None, top : top + side, left : left + side])
                token = model.encode_image(torch.nn.functional.interpolate(crop, (64, 64)))
                found = CLASS_NAMES[int((token @ texts.T).argmax())]
                seen.setdefault(thing.name, []).append(found == thing.name)
    assert len(seen) == 10
    assert all(np.mean(right) > 0.5 for right in seen.values()), seen


@pytest.mark.weights
def test_shipped_weights_find_present_classes_and_label_true_masks() -> None:
    scores = evaluate_clip(WEIGHTS, images=12, settings=SETTINGS[:1])
    assert scores["presence_f1"] > 0.75
    assert scores["masks_naclip_160_32"] > 0.75
