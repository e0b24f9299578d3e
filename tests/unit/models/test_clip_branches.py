"""CLIP's further branches against the same thing with all tokens in one attention, open_clip's."""

import pytest
import torch
from torch.nn.functional import normalize

from fmbseg.models.clip_branches import branches_of, middle_blocks, nearest
from tests.support.small_clip import random_image, small, upstream_pixels, write_small_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_clip(tmp_path_factory.mktemp("clip"), layers=6)


def joint_tokens(visual, pixels, inside):
    """Region tokens beside the others in one attention, kept apart by its mask alone."""
    regions = len(inside)
    tokens = visual._embeds(pixels)
    both = torch.cat([tokens[:, :1].expand(-1, regions, -1), tokens], dim=1)
    mask = torch.full((both.shape[1], both.shape[1]), float("-inf"))
    mask[regions:, regions:] = 0
    mask[:regions, regions] = 0
    mask[:regions, regions + 1 :][inside] = 0
    outputs = []
    for block in visual.transformer.resblocks:
        both = block(both, attn_mask=mask)
        outputs.append(both)
    return outputs, regions


def test_branches_equal_those_of_one_attention_with_a_mask(folder):
    clip = small(folder, projection="maskclip")
    visual = clip.model.visual
    pixels = upstream_pixels(clip.model, random_image(32, 32))
    placed = torch.arange(16) % 3
    inside = placed == torch.arange(4)[:, None]  # region 3 has no patch here
    with torch.no_grad():
        outputs, regions = joint_tokens(visual, pixels, inside)
        found = branches_of(visual, pixels, inside[None])[0]
        last = visual.transformer.resblocks[-1]
        weight, bias = last.attn.in_proj_weight[64:], last.attn.in_proj_bias[64:]
        # Six blocks: the last one is given outputs[4], the middle ones are 2 and 3.
        given = [outputs[4], (outputs[2] + outputs[3]) / 2]
        wanted = [last.ln_1(one[0, regions + 1 :]) @ weight.T + bias for one in given]
    values, tokens, middle = found.chunk(3, dim=1)
    torch.testing.assert_close(values, wanted[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(middle, wanted[1], rtol=1e-4, atol=1e-4)
    for patch, region in enumerate(placed.tolist()):
        torch.testing.assert_close(tokens[patch], outputs[5][0, region], rtol=1e-4, atol=1e-4)


def test_branches_of_an_image_are_means_over_its_crops_and_values_are_as_before(folder):
    clip = small(folder, projection="maskclip")
    image = random_image(32, 56)  # two crops of 4 x 4 patches, a column of which is in both
    regions = (torch.arange(28).view(4, 7) % 7) // 3
    found = clip.encode_branches(image, regions)
    torch.testing.assert_close(found.values, clip.encode_values(image), rtol=1e-5, atol=1e-5)
    pixels = clip.prepare(image)
    total, seen = torch.zeros(4, 7, 96), torch.zeros(4, 7, 1)
    for left in [place for _, place in clip._corners(pixels)]:
        part = regions[:, left // 8 : left // 8 + 4].flatten()
        with torch.no_grad():
            one = branches_of(
                clip.model.visual, pixels[None, :, :, left : left + 32],
                (part == torch.arange(3)[:, None])[None],
            )  # fmt: skip
        total[:, left // 8 : left // 8 + 4] += one[0].view(4, 4, 96)
        seen[:, left // 8 : left // 8 + 4] += 1
    wanted = (total / seen).chunk(3, dim=2)
    for ours, theirs in zip((found.values, found.regions, found.middle), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_weighted_sum_is_taken_after_the_towers_norm(folder):
    clip = small(folder, projection="maskclip")
    visual, image = clip.model.visual, random_image(32, 40)
    branches = clip.encode_branches(image, torch.zeros(2, 2, dtype=torch.int64))
    with torch.no_grad():
        out = visual.transformer.resblocks[-1].attn.out_proj
        joined = (
            visual.ln_post(out(branches.values)) + 0.7 * visual.ln_post(out(branches.middle))
            + 0.2 * visual.ln_post(branches.regions)
        ) @ visual.proj  # fmt: skip
    found = clip.project_branches(branches, region_weight=0.2, middle_weight=0.7)
    torch.testing.assert_close(found, normalize(joined, dim=2), rtol=1e-4, atol=1e-4)
    alone = clip.project_branches(branches, 0.0, 0.0)
    torch.testing.assert_close(alone, clip.project_values(branches.values), rtol=1e-4, atol=1e-4)


def test_a_tower_of_few_blocks_has_no_middle_branch(tmp_path):
    clip = small(write_small_clip(tmp_path), projection="maskclip")
    branches = clip.encode_branches(random_image(32, 40), torch.zeros(2, 2, dtype=torch.int64))
    assert branches.middle is None
    assert branches.regions.shape == branches.values.shape
    found = [clip.project_branches(branches, 0.0, weight) for weight in (0.0, 1.0)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], clip.project_values(branches.values))


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(3, []), (4, []), (6, [2, 3]), (12, list(range(5, 10))), (24, list(range(10, 22)))],
)
def test_middle_blocks_are_those_before_the_last_but_one(count, wanted):
    assert list(middle_blocks(count)) == wanted


def test_a_map_on_another_grid_takes_the_nearest_as_torch_does():
    given = torch.arange(15).view(3, 5)
    for size in ((3, 5), (6, 10), (2, 3), (4, 7)):
        wanted = torch.nn.functional.interpolate(given[None, None].float(), size, mode="nearest")
        assert torch.equal(nearest(given, size), wanted[0, 0].long())
