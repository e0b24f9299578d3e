import dataclasses
import itertools

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from fmbseg.models.build import build_clip
from fmbseg.models.clip_config import imagenet_templates
from fmbseg.models.clip_projection import (
    PROJECTIONS,
    plain_attention,
    project_tokens,
)
from fmbseg.models.clip_weights import clip_source
from fmbseg.models.images import crop_starts_px
from fmbseg.models.weights import MissingWeightsError
from tests.support.small_clip import (
    MEAN,
    SMALL,
    STD,
    random_image,
    small,
    upstream_pixels,
    upstream_tokens,
    write_small_clip,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_clip(tmp_path_factory.mktemp("clip"))


def test_the_class_token_equals_encode_image_on_upstreams_own_preprocessing(folder):
    clip = small(folder)
    for image in [random_image(32, 32), random_image(60, 60), random_image(20, 20)]:
        ours = clip.encode_dense(image)
        with torch.no_grad():
            theirs = clip.model.encode_image(upstream_pixels(clip.model, image), normalize=True)
        if ours.cls.shape[0] > 1:  # a larger square has several crops unless it is scaled down
            ours = small(folder, short_side_px=32).encode_dense(image)
        torch.testing.assert_close(ours.cls, theirs, rtol=1e-4, atol=1e-5)


def test_text_features_are_the_models_own_through_the_template(folder):
    clip = small(folder)
    tokens = open_clip.SimpleTokenizer(context_length=16)(
        ['a photo of a "cat"', 'a photo of a "brick wall"']
    )
    with torch.no_grad():
        theirs = clip.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip.encode_text(["cat", "brick wall"]), theirs)


def test_several_templates_are_averaged_on_the_unit_sphere(folder):
    clip = small(folder)
    names, templates = ["cat", "brick wall"], ["a {}", "the {} in a video game.", "{}"]
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    expected = []
    for name in names:
        total = torch.zeros(clip.dim)
        for template in templates:
            with torch.no_grad():
                feature = clip.model.encode_text(tokenizer([template.replace("{}", name)]))[0]
            total += feature / feature.norm()
        expected.append(total / total.norm())
    found = clip.encode_text(names, templates)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_models_own_template_given_by_hand_changes_no_byte(folder):
    clip = small(folder, template="the {}")
    assert torch.equal(
        clip.encode_text(["cat", "sky"]), clip.encode_text(["cat", "sky"], ["the {}"])
    )
    assert not torch.equal(clip.encode_text(["cat"]), clip.encode_text(["cat"], ["a {}"]))


def test_imagenets_templates_are_eighty_and_each_takes_one_name():
    assert len(set(imagenet_templates())) == 80
    assert all(template.count("{}") == 1 for template in imagenet_templates())
    assert imagenet_templates()[0] == "a bad photo of a {}."


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{} and {}"]])
def test_templates_without_one_place_for_the_name_are_refused(folder, templates):
    with pytest.raises(ValueError, match="template"):
        small(folder).encode_text(["cat"], templates)


@pytest.mark.parametrize(
    ("length", "crop", "stride", "starts"),
    [(32, 32, 16, [0]), (48, 32, 16, [0, 16]), (56, 32, 16, [0, 16, 24]), (40, 32, 32, [0, 8])],
)
def test_crops_cover_the_length_and_the_last_is_shifted_to_the_border(length, crop, stride, starts):
    assert crop_starts_px(length, crop, stride) == starts


@pytest.mark.parametrize("image_hw", [(40, 72), (72, 40), (45, 61), (9, 200), (32, 32)])
def test_the_map_covers_images_of_any_shape_with_unit_features(folder, image_hw):
    clip = small(folder, projection="naclip")
    dense = clip.encode_dense(random_image(*image_hw))
    scale = max(1, 32 / min(image_hw))
    assert dense.patches.shape == (
        *(round(side * scale / 8) for side in image_hw),
        clip.dim,
    )
    torch.testing.assert_close(dense.patches.norm(dim=2), torch.ones(dense.patches.shape[:2]))
    torch.testing.assert_close(dense.cls.norm(dim=1), torch.ones(len(dense.cls)))
    assert dense.patches.dtype == torch.float32
    assert dense.patches.device.type == "cpu"


def test_the_map_is_the_mean_over_overlaps_of_each_crops_unit_features(folder):
    clip = small(folder, projection="maskclip")
    image = random_image(40, 56)
    dense = clip.encode_dense(image)
    visual = clip.model.visual
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    pixels = (torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std
    sums = [[torch.zeros(clip.dim) for _ in range(7)] for _ in range(5)]
    classes = []
    for top in [0, 8]:
        for left in [0, 16, 24]:
            crop = pixels[None, :, top : top + 32, left : left + 32]
            cls, patches = project_tokens(visual, crop, PROJECTIONS["maskclip"])
            classes.append(normalize(cls[0], dim=0))
            for i in range(16):
                row, col = top // 8 + i // 4, left // 8 + i % 4
                sums[row][col] = sums[row][col] + normalize(patches[0, i], dim=0)
    expected = torch.stack([torch.stack([normalize(s, dim=0) for s in row]) for row in sums])
    torch.testing.assert_close(dense.patches, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dense.cls, torch.stack(classes), rtol=1e-4, atol=1e-5)


def test_crops_in_one_batch_equal_crops_one_by_one(folder):
    image = random_image(50, 70)
    together = small(folder, batch_crops=32).encode_dense(image)
    alone = small(folder, batch_crops=1).encode_dense(image)
    torch.testing.assert_close(together.patches, alone.patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.cls, alone.cls, rtol=1e-4, atol=1e-5)


def test_a_short_side_and_a_stride_set_the_number_of_crops_and_patches(folder):
    image = random_image(20, 30)
    dense = small(folder, short_side_px=64, stride_fraction=1.0).encode_dense(image)
    assert dense.patches.shape[:2] == (8, 12)
    assert len(dense.cls) == 2 * 3


def test_the_model_is_frozen_and_its_outputs_may_take_part_in_training(folder):
    clip = small(folder)
    before = {k: v.clone() for k, v in clip.model.state_dict().items()}
    dense = clip.encode_dense(random_image(40, 40))
    text = clip.encode_text(["cat"])
    assert not clip.model.training
    assert not any(p.requires_grad for p in clip.model.parameters())
    head = torch.nn.Linear(clip.dim, clip.dim)
    (head(dense.patches) @ text.T).sum().backward()
    assert head.weight.grad is not None
    assert all(torch.equal(v, before[k]) for k, v in clip.model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "tag", "right"),
    [
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("ViT-L-14", "openai", "ViT-L-14-quickgelu"),
        ("ViT-L-14-quickgelu", "laion2b_s32b_b82k", "use name ViT-L-14"),
    ],
)
def test_a_quickgelu_mismatch_is_an_error_that_names_the_right_model(name, tag, right):
    with pytest.raises(ValueError, match=rf"QuickGELU mismatch.*{right}"):
        build_clip(name, tag)


def test_openais_torchscript_archive_needs_a_quickgelu_name(tmp_path):
    class Held(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(1.702 * x)

    path = tmp_path / "ViT-B-32.pt"
    torch.jit.script(Held()).save(path)
    with pytest.raises(ValueError, match="QuickGELU mismatch"):
        build_clip("ViT-B-32", str(path))


def test_missing_weights_name_the_command_and_nothing_is_downloaded(monkeypatch, tmp_path):
    def forbidden(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", forbidden)
    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MissingWeightsError) as caught:
        build_clip("ViT-B-16-quickgelu", "openai")
    message = str(caught.value)
    for part in ["ViT-B-16-quickgelu (openai)", "fmbseg download --weights"]:
        assert part in message
    source = clip_source("ViT-B-16-quickgelu", "openai")
    assert source.find() is None
    assert source.address == "https://huggingface.co/timm/vit_base_patch16_clip_224.openai"
    assert str(tmp_path / ".cache/clip/ViT-B-16.pt") in source.searched()
    with pytest.raises(MissingWeightsError, match="open_clip_config"):
        build_clip(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no-such-clip", {}, "models.clip.name"),
        ("ViT-B-32", {"pretrained": "no-such-tag"}, "neither a file nor a tag"),
        ("RN50", {}, "VisionTransformer"),
    ],
)
def test_a_name_that_cannot_serve_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_clip(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "best"}, "projection"),
        ({"template": "a photo"}, "template"),
        ({"stride_fraction": 0.0}, "stride_fraction"),
        ({"batch_crops": 0}, "batch_crops"),
        ({"device": "tpu9"}, "device"),
    ],
)
def test_a_wrong_option_is_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        small(folder, **options)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((2, 200, 3), np.uint8)],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_rgb_image_is_refused(folder, image):
    with pytest.raises(ValueError, match="image:"):
        small(folder).encode_dense(image)


def test_a_checkpoint_file_gives_the_same_features_as_its_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-test", SMALL)
    torch.save(small(folder).model.state_dict(), tmp_path / "small.pt")
    clip = build_clip("small-test", tmp_path / "small.pt", quick_gelu=True)
    torch.testing.assert_close(
        clip.encode_text(["cat", "sky"]), small(folder).encode_text(["cat", "sky"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "ViT-L-14-quickgelu"])
def test_full_size_architectures_with_every_change_switched_off_agree_with_open_clip(name):
    torch.manual_seed(0)
    clip = build_clip(name, projection="naclip", batch_crops=2)
    patch = clip.patch_hw[0]
    image = random_image(224, 336)
    dense = clip.encode_dense(image)
    assert dense.patches.shape == (224 // patch, 336 // patch, clip.dim)
    assert dense.cls.shape == (2, clip.dim)
    pixels = upstream_pixels(clip.model, image[:, :224])
    pooled, tokens = upstream_tokens(clip.model, pixels)
    torch.testing.assert_close(dense.cls[0], normalize(pooled[0], dim=0), rtol=1e-3, atol=1e-5)
    as_projected = {}
    for projection in ("maskclip", "sclip", "naclip"):
        switched_off = dataclasses.replace(
            PROJECTIONS[projection], attend=plain_attention, whole=True
        )
        with torch.no_grad():
            _, patches = project_tokens(clip.model.visual, pixels, switched_off)
            cls, own = project_tokens(clip.model.visual, pixels, PROJECTIONS[projection])
        torch.testing.assert_close(patches, tokens, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(cls, pooled, rtol=1e-3, atol=1e-4)
        assert own.shape == tokens.shape
        assert own.isfinite().all()
        as_projected[projection] = own
    for one, other in itertools.combinations([*as_projected.values(), tokens], 2):
        assert (one - other).abs().max() > 1e-3, "four different features"


@pytest.mark.weights
@pytest.mark.parametrize("projection", ["maskclip", "sclip", "naclip"])
def test_the_shipped_miniature_clip_loads(projection):
    clip = build_clip("miniature", projection=projection)
    dense = clip.encode_dense(random_image(128, 192))
    text = clip.encode_text(["sky", "brick wall"])
    assert dense.patches.shape[2] == text.shape[1] == clip.dim
    assert text[0] @ text[1] < 0.99
