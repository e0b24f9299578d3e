import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image as PilImage
from safetensors.torch import save_file
from timm.data import create_transform

from fmbseg.models.build import build_vision
from fmbseg.models.images import patch_aligned_hw
from fmbseg.models.vision_weights import vision_source
from fmbseg.models.weights import MissingWeightsError

ARGS = {"img_size": 56, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2}
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def write_folder(path, architecture, **args):
    args = {**ARGS, **args}
    config = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "num_classes": 0,
              "input_size": [3, 56, 56]}  # fmt: skip
    text = {"architecture": architecture, "num_classes": 0, "model_args": args,
            "pretrained_cfg": config}  # fmt: skip
    (path / "config.json").write_text(json.dumps(text))
    torch.manual_seed(7)
    model = timm.create_model(architecture, num_classes=0, **args)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_file(model.state_dict(), path / "model.safetensors")
    return f"local-dir:{path}"


def random_image(height, width):
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    return np.repeat(np.repeat(coarse, 4, 0), 4, 1)[:height, :width].astype(np.uint8)


PREFIXES = [
    ("vit_small_patch14_dinov2", {}, 1),
    ("vit_small_patch14_reg4_dinov2", {}, 5),
    ("vit_base_patch16_224", {"class_token": False, "global_pool": "avg"}, 0),
]


@pytest.mark.parametrize(("architecture", "args", "prefix"), PREFIXES)
def test_prefix_tokens_are_dropped_and_patches_come_after_the_final_norm(
    tmp_path, architecture, args, prefix
):
    vision = build_vision(write_folder(tmp_path, architecture, **args))
    assert vision.model.num_prefix_tokens == prefix
    image = random_image(42, 70)
    features = vision.encode(image)
    assert features.shape == (3, 5, 24)
    assert features.dtype == torch.float32
    model = vision.model
    pixels = torch.tensor(image).permute(2, 0, 1) / 255 - torch.tensor(MEAN)[:, None, None]
    with torch.no_grad():
        x = model.patch_embed((pixels / torch.tensor(STD)[:, None, None])[None])
        x = model.norm_pre(model.patch_drop(model._pos_embed(x)))
        for block in model.blocks:
            x = block(x)
        norm = model.fc_norm if isinstance(model.norm, torch.nn.Identity) else model.norm
        assert isinstance(norm, torch.nn.LayerNorm)
        for row in range(3):
            for col in range(5):
                token = norm(x[0, prefix + row * 5 + col])
                torch.testing.assert_close(features[row, col], token, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("short_side_px", [None, 42, 50, "auto"])
def test_the_grid_of_patches_follows_from_the_images_size_alone(tmp_path, short_side_px):
    vision = build_vision(write_folder(tmp_path, PREFIXES[0][0]), short_side_px=short_side_px)
    for size_hw in [(42, 70), (70, 42), (9, 200), (100, 100), (57, 61), (13, 14), (301, 88)]:
        rows, cols, _ = vision.encode(random_image(*size_hw)).shape
        assert vision.grid_hw(size_hw) == (rows, cols), size_hw


def test_a_square_image_is_prepared_as_timms_own_transform_does(tmp_path):
    vision = build_vision(write_folder(tmp_path, PREFIXES[0][0]), short_side_px=56)
    image = random_image(100, 100)
    transform = create_transform(
        (3, 56, 56), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=1.0
    )
    with torch.no_grad():
        tokens = vision.model.forward_features(transform(PilImage.fromarray(image))[None])
    torch.testing.assert_close(
        vision.encode(image).flatten(0, 1), tokens[0, 1:], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("image_hw", "short_side_px", "grid_hw"),
    [((42, 70), None, (3, 5)), ((40, 72), None, (3, 5)), ((5, 9), None, (1, 2)),
     ((60, 90), 28, (2, 3)), ((90, 60), 28, (3, 2)), ((30, 40), 56, (4, 5))],
)  # fmt: skip
def test_the_grid_follows_the_shortest_side_and_the_shape(
    tmp_path, image_hw, short_side_px, grid_hw
):
    vision = build_vision(write_folder(tmp_path, PREFIXES[0][0]), short_side_px=short_side_px)
    assert vision.encode(random_image(*image_hw)).shape[:2] == grid_hw


def test_aligned_sizes_are_whole_patches_and_never_below_the_least():
    assert patch_aligned_hw((100, 333), (14, 14), 224, (14, 14)) == (224, 742)
    assert patch_aligned_hw((100, 101), (16, 16), None, (224, 224)) == (224, 224)
    assert patch_aligned_hw((300, 100), (16, 8), None, (64, 128)) == (384, 128)


def test_the_model_is_frozen_and_its_features_may_take_part_in_training(tmp_path):
    vision = build_vision(write_folder(tmp_path, PREFIXES[0][0]))
    before = {k: v.clone() for k, v in vision.model.state_dict().items()}
    features = vision.encode(random_image(42, 56))
    head = torch.nn.Linear(vision.dim, 3)
    head(features).sum().backward()
    assert head.weight.grad is not None
    assert not vision.model.training
    assert not any(p.requires_grad for p in vision.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in vision.model.state_dict().items())


def test_a_file_replaces_a_names_own_weights(tmp_path):
    name = write_folder(tmp_path, PREFIXES[0][0])
    image = random_image(42, 56)
    own = build_vision(name).encode(image)
    file = tmp_path / "other.pt"
    torch.save(build_vision(name).model.state_dict(), file)
    torch.testing.assert_close(build_vision(name, str(file)).encode(image), own)
    assert (build_vision(name, False).encode(image) - own).abs().max() > 1e-3


def test_weights_that_leave_a_part_random_are_refused(tmp_path):
    name = write_folder(tmp_path, PREFIXES[0][0])
    state = build_vision(name).model.state_dict()
    state.pop("blocks.1.attn.qkv.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing \['blocks.1.attn.qkv.weight'\]"):
        build_vision(name)


@pytest.mark.parametrize("name", ["no_such_vit", "resnet18", "vit_base_patch14_dinov2.no_tag"])
def test_a_name_that_is_no_vit_of_timm_is_refused(name):
    with pytest.raises(ValueError, match=r"models\.vision\.name|wanted a ViT of timm"):
        build_vision(name, name == "vit_base_patch14_dinov2.no_tag")


def test_missing_weights_name_the_command_and_nothing_is_downloaded(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", forbidden)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    name = "vit_base_patch14_dinov2.lvd142m"
    with pytest.raises(MissingWeightsError) as caught:
        build_vision(name)
    for part in [name, "fmbseg download --weights"]:
        assert part in str(caught.value)
    source = vision_source(name, True)
    assert source.find() is None
    assert source.address == f"https://huggingface.co/timm/{name}"
    assert any(path.endswith("dinov2_vitb14_pretrain.pth") for path in source.searched())
    with pytest.raises(MissingWeightsError, match=r"config\.json"):
        build_vision(f"local-dir:{tmp_path}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dim"), [("vit_small_patch14_dinov2", 384), ("vit_large_patch14_dinov2", 1024)]
)
def test_dinov2_takes_images_that_are_not_square(name, dim):
    torch.manual_seed(0)
    vision = build_vision(name, pretrained=False, short_side_px=84)
    features = vision.encode(random_image(60, 100))
    assert features.shape == (6, 10, dim)
    assert vision.dim == dim
    # After the final norm, whose weights are fresh, every feature has mean 0 and variance 1.
    torch.testing.assert_close(features.mean(2), torch.zeros(6, 10), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        features.var(2, correction=0), torch.ones(6, 10), rtol=1e-2, atol=1e-2
    )


@pytest.mark.weights
def test_the_shipped_miniature_vision_encoder_loads():
    vision = build_vision("miniature", short_side_px=128)
    assert vision.encode(random_image(128, 192)).shape == (16, 24, vision.dim)
