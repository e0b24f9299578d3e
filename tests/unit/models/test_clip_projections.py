import dataclasses

import numpy as np
import open_clip
import pytest
import torch

from fmbseg.models.clip_projection import (
    PROJECTIONS,
    finish,
    gaussian_window,
    plain_attention,
    project_tokens,
    project_values,
    queries_keys_values,
    values_of,
)
from tests.support.small_clip import (
    random_image,
    slow_patches,
    small,
    upstream_tokens,
    write_small_clip,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_clip(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize("name", ["maskclip", "sclip", "naclip"])
def test_each_projection_equals_its_formula_written_out(folder, name):
    model = small(folder).model
    pixels = torch.randn(1, 3, 32, 32)
    _, patches = project_tokens(model.visual, pixels, PROJECTIONS[name])
    torch.testing.assert_close(patches, slow_patches(model, pixels, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(PROJECTIONS))
def test_with_its_change_switched_off_each_projection_gives_the_models_own_patch_tokens(
    folder, name
):
    model = small(folder).model
    pixels = torch.randn(2, 3, 32, 32)
    switched_off = dataclasses.replace(PROJECTIONS[name], attend=plain_attention, whole=True)
    cls, patches = project_tokens(model.visual, pixels, switched_off)
    pooled, tokens = upstream_tokens(model, pixels)
    torch.testing.assert_close(cls, pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches, tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maskclip", "sclip", "naclip"])
def test_every_projection_changes_the_patches_and_leaves_the_class_token(folder, name):
    image = random_image(32, 32)
    plain = small(folder, projection="plain").encode_dense(image)
    changed = small(folder, projection=name).encode_dense(image)
    torch.testing.assert_close(changed.cls, plain.cls)
    assert (changed.patches - plain.patches).abs().max() > 1e-3


def test_custom_blocks_run_in_parts_equal_the_block():
    torch.manual_seed(0)
    block = open_clip.transformer.CustomResidualAttentionBlock(
        16, 2, ls_init_value=0.3, qk_norm=True, scale_heads=True, scale_attn_inner=True,
        scale_attn=True, scale_fc=True,
    ).eval()  # fmt: skip
    x = torch.randn(2, 7, 16)
    with torch.no_grad():
        ours = finish(block, plain_attention(*queries_keys_values(block, x), (2, 3)), x[:, 1:])
        torch.testing.assert_close(ours, block(x)[:, 1:], rtol=1e-4, atol=1e-5)


def test_gaussian_window_is_one_at_the_patch_and_falls_with_distance_in_both_directions():
    window = gaussian_window((3, 4), 2.0)
    for a in range(12):
        for b in range(12):
            squared = (a // 4 - b // 4) ** 2 + (a % 4 - b % 4) ** 2
            assert window[a, b].item() == pytest.approx(np.exp(-squared / 8))


def test_values_projected_one_by_one_are_what_maskclip_answers(folder):
    clip = small(folder, projection="naclip")
    pixels = torch.randn(2, 3, 32, 32)
    _, wanted = project_tokens(clip.model.visual, pixels, PROJECTIONS["maskclip"])
    values = values_of(clip.model.visual, pixels)
    found = project_values(clip.model.visual, values.flatten(0, 1)).unflatten(0, values.shape[:2])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_values_of_a_single_crop_give_maskclips_map_and_of_several_their_mean(folder):
    maskclip = small(folder, projection="maskclip", short_side_px=32)
    image = random_image(32, 32)
    values = maskclip.encode_values(image)
    torch.testing.assert_close(
        maskclip.project_values(values), maskclip.encode_dense(image).patches, rtol=1e-4, atol=1e-5
    )
    wide = random_image(32, 48, seed=1)  # two crops, which share the middle
    two = maskclip.encode_values(wide)
    assert two.shape == (4, 6, 32)
    left, right = (maskclip.encode_values(wide[:, x : x + 32]) for x in (0, 16))
    torch.testing.assert_close(two[:, :2], left[:, :2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two[:, 2:4], (left[:, 2:] + right[:, :2]) / 2, rtol=1e-4, atol=1e-5)
