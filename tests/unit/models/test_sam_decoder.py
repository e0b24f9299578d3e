import pytest
import torch

from fmbseg.models import sam_decoder
from fmbseg.models.build import build_sam
from fmbseg.models.sam_architecture import build_sam_from_config
from fmbseg.models.sam_decoder import PromptDecoder, all_wanted
from tests.support.official_weights import SAM as SMALL


class Watched(torch.nn.Module):
    """A layer that keeps the first size of what it was given."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.sizes = layer, []

    def forward(self, values):
        self.sizes.append(len(values))
        return self.layer(values)


class Asked:
    """A SAM, an image and prompts, and segment_anything's own answers."""

    def __init__(self, model, prompts):
        draw = torch.Generator().manual_seed(0)
        model = model.eval().requires_grad_(False)
        encoder, self.decoder = model.prompt_encoder, model.mask_decoder
        rows, cols = encoder.image_embedding_size
        features = torch.randn(1, self.decoder.transformer_dim, rows, cols, generator=draw) / 2
        points = torch.rand(prompts, 1, 2, generator=draw) * model.image_encoder.img_size
        self.sparse, dense = encoder((points, torch.ones(prompts, 1)), None, None)
        position = encoder.get_dense_pe()
        self.masks, self.scores = self.decoder(features, position, self.sparse, dense, True)
        self.ours = PromptDecoder(self.decoder)
        no_mask = encoder.no_mask_embed.weight[0]
        self.side = self.ours.image_side(features, position, no_mask)


@pytest.fixture(params=["small", pytest.param("miniature", marks=pytest.mark.weights)])
def asked(request):
    torch.manual_seed(0)
    small = request.param == "small"
    model = build_sam_from_config(SMALL) if small else build_sam("miniature").model
    with torch.inference_mode():
        yield Asked(model, prompts=40)


@pytest.mark.parametrize("number", [0, 1, 18, 72, 120])
@pytest.mark.parametrize("at_once", [1, 3, 8, 64])
def test_masks_and_scores_are_those_of_segment_anything(asked, number, at_once, monkeypatch):
    monkeypatch.setattr(sam_decoder, "_PROMPTS_AT_ONCE", at_once)
    scores = asked.scores.flatten().sort(descending=True).values
    ends = torch.cat([scores[:1] + 1, scores, scores[-1:] - 1])
    least = (ends[number] + ends[number + 1]) / 2
    found = asked.ours.decode(asked.side, asked.sparse, lambda iou: iou > least)
    assert torch.equal(found.wanted, asked.scores > least)
    assert found.wanted.sum() == number
    torch.testing.assert_close(found.predicted_iou, asked.scores, rtol=0, atol=2e-6)
    torch.testing.assert_close(found.logits, asked.masks[found.wanted], rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(found.scores, asked.scores[asked.scores > least], rtol=0, atol=2e-6)
    assert found.prompts == [i for i in range(40) for score in asked.scores[i] if score > least]


def test_only_prompts_with_a_wanted_mask_are_upscaled(asked):
    watched = asked.decoder.output_upscaling[0] = Watched(asked.decoder.output_upscaling[0])
    best = asked.scores.max(dim=1).values.sort(descending=True).values
    found = asked.ours.decode(asked.side, asked.sparse, lambda iou: iou > best[5:7].mean())
    assert sum(watched.sizes) == len(set(found.prompts)) == 6


def test_what_the_image_gives_is_computed_once_for_all_prompts(asked):
    first = asked.decoder.transformer.layers[0].cross_attn_token_to_image
    watched = first.k_proj = Watched(first.k_proj)
    asked.ours.decode(asked.side, asked.sparse, all_wanted)
    assert watched.sizes == []
