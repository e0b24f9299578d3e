"""Talk2DINO's formulas against slow references, and what its parts are given."""

import re

import numpy as np
import pytest
import torch

from fmbseg.miniature.world import SEEN_CLASS_NAMES, STUFF
from fmbseg.models.build import build_vision
from studies.talk2dino.alignment import (
    Settings,
    TextToVision,
    contrastive_loss,
    means_by_head,
    similarities,
    train,
)
from studies.talk2dino.captions import captions
from studies.talk2dino.method import Talk2DinoSegmentation
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, image, truth


def test_captions_name_what_there_is_and_never_where():
    labels = np.zeros((40, 50), np.uint8)  # sky
    labels[20:] = 1  # grass
    labels[5:15, 5:15], labels[25:35, 20:45] = 6, 11  # a car and a cat
    labels[0, 0] = 12  # a fish, too small to be said
    rng = np.random.default_rng(0)
    said = captions(labels, SEEN_CLASS_NAMES, rng, 40)
    assert len(set(said)) > 3
    for one in said:
        assert re.fullmatch(r"a photo of a (car and a cat|cat and a car)( on (sky|grass))?", one)
    shuffled = rng.permutation(labels.ravel()).reshape(labels.shape)
    first, again = (
        captions(one, SEEN_CLASS_NAMES, np.random.default_rng(1), 9) for one in (labels, shuffled)
    )
    assert first == again, "places play no part"
    bare = captions(np.full((4, 4), 2, np.uint8), SEEN_CLASS_NAMES, rng, 3)
    assert set(bare) == {f"a photo of {STUFF[2]}"}


def test_means_follow_each_heads_attention_of_the_class_token():
    vision = build_vision("miniature", short_side_px="auto")
    picture = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    layer, given = vision.model.blocks[-1].attn, []
    hook = layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    features = vision.encode(picture).flatten(0, 1)
    hook.remove()
    found = means_by_head(vision, picture)
    with torch.inference_mode():
        tokens = given[0][0]
        q, k, _ = layer.qkv(tokens).chunk(3, dim=1)
        size = tokens.shape[1] // 5
        for head in range(5):
            part = slice(head * size, (head + 1) * size)
            scores = [float(q[0, part] @ k[1 + p, part]) / size**0.5 for p in range(len(features))]
            weights = torch.tensor(scores).softmax(0)
            wanted = sum(w * f for w, f in zip(weights, features, strict=True))
            torch.testing.assert_close(found[head], wanted, rtol=1e-3, atol=1e-3)


def test_similarity_takes_the_nearest_head_and_the_loss_is_symmetric():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(3, 2, 4))).float()
    texts = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(3, 4))).float(), dim=1)
    found = similarities(images, texts)
    loss = 0.0
    for i in range(3):
        for t in range(3):
            heads = [float(h @ texts[t] / h.norm()) for h in images[i]]
            assert abs(float(found[i, t]) - max(heads)) < 1e-6
        row, col = (10 * found[i]).exp(), (10 * found[:, i]).exp()
        loss -= float((row[i] / row.sum()).log() + (col[i] / col.sum()).log()) / 6
    assert abs(float(contrastive_loss(found, torch.tensor(10.0))) - loss) < 1e-5


def test_training_finds_the_head_that_a_caption_speaks_of_and_repeats_itself():
    texts, looks = torch.eye(4), torch.eye(6)[:4]
    noise = torch.full((4, 6), 0.0)
    noise[:, 5] = 1  # every image has a head that sees the same
    images = torch.stack([noise, looks], dim=1)
    of_images = [torch.tensor([i]) for i in range(4)]
    settings = Settings(epochs=60, batch_images=4, learning_rate=0.05)
    heads = [train(images, texts, of_images, settings, seed) for seed in (0, 0, 1)]
    with torch.no_grad():
        assert torch.equal((heads[0](texts) @ looks.T).argmax(1), torch.arange(4))
        assert torch.equal(heads[0](texts), heads[1](texts))
        assert not torch.equal(heads[0](texts), heads[2](texts))


def test_patches_take_the_nearest_name():
    head = TextToVision(3, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in (head.first, head.last):
            layer.weight.copy_(torch.eye(3))
            layer.bias.zero_()
    method = Talk2DinoSegmentation(ColourClip(), ColourVision(), head)
    np.testing.assert_array_equal(method.segment(image(), NAMES).labels, truth())


@pytest.mark.usefixtures("unchecked")
def test_an_encoder_without_a_class_token_is_refused_in_words():
    vision = build_vision("miniature", short_side_px="auto")
    vision.model.has_class_token = False
    with pytest.raises(ValueError, match="without a class token"):
        means_by_head(vision, image())
