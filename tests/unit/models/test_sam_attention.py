"""The attention of SAM's last block against segment_anything's own, in architectures of both kinds.

One has windows and relative positions, as vit_b, vit_l and vit_h have; one has neither, as the
miniature.
"""

from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling.image_encoder import add_decomposed_rel_pos

from fmbseg.models.sam import SegmentAnything
from fmbseg.models.sam_architecture import build_sam_from_config
from tests.support.official_weights import SAM as SMALL

PLAIN: dict[str, Any] = {
    **SMALL,
    "encoder": {"embed_dim": 16, "depth": 2, "num_heads": 2, "window_size": 0},
}


def sam_of(config):
    torch.manual_seed(5)
    model = build_sam_from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return SegmentAnything(model, torch.device("cpu"))


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def slow_attention(sam, image):
    """Values and attention of every patch of the padded square, by head, as upstream has them."""
    layer, given = sam.model.image_encoder.blocks[-1].attn, []
    hook = layer.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    sam.embed(image)
    hook.remove()
    with torch.no_grad():
        tokens = given[0].clone()[0].flatten(0, 1)
        width, size = tokens.shape[1], tokens.shape[1] // layer.num_heads
        q, k, v = layer.qkv(tokens).split(width, dim=1)
        attention = []
        for head in range(layer.num_heads):
            part = slice(head * size, (head + 1) * size)
            scores = (q[:, part] @ k[:, part].T * size**-0.5)[None]
            if layer.use_rel_pos:
                scores = add_decomposed_rel_pos(
                    scores, q[None, :, part], layer.rel_pos_h, layer.rel_pos_w, (8, 8), (8, 8)
                )
            attention.append(scores[0].softmax(1))
    return v, torch.stack(attention)


@pytest.mark.parametrize("config", [SMALL, PLAIN], ids=["published", "miniature"])
@pytest.mark.parametrize(("image_hw", "grid_hw"), [((40, 100), (3, 8)), ((64, 30), (8, 3))])
def test_attention_and_values_of_the_last_block_are_sams_own(config, image_hw, grid_hw):
    sam, image = sam_of(config), picture(*image_hw)
    embedding, found = sam.embed_attending(image)
    torch.testing.assert_close(
        embedding.encoded.side.tokens, sam.embed(image).encoded.side.tokens, rtol=1e-4, atol=1e-4
    )
    values, attention = slow_attention(sam, image)
    assert found.grid_hw == grid_hw
    rows, cols = grid_hw
    places = [8 * row + col for row in range(rows) for col in range(cols)]  # no padding
    torch.testing.assert_close(found.values, values[places], rtol=1e-4, atol=1e-4)
    wanted = attention.mean(0)[places][:, places]
    both = torch.cat([found.weights(slice(0, 10)), found.weights(slice(10, 99))])
    torch.testing.assert_close(both, wanted, rtol=1e-4, atol=1e-5)
    assert (both.sum(1) < 1).all(), "the padding has a part"


def test_a_last_block_with_windows_is_refused_in_words():
    windowed = {**PLAIN, "encoder": {**PLAIN["encoder"], "window_size": 4}}
    with pytest.raises(ValueError, match=r"last block that attends within windows of 4 patches"):
        sam_of(windowed).embed_attending(picture(20, 30))
