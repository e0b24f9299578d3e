"""CLIP towers without a class token of open_clip's own, of random weights; nothing is fetched."""

import json
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from fmbseg.models.build import build_clip
from fmbseg.models.clip import OpenClipDense
from fmbseg.models.clip_config import TOKENIZER_FILES, build_clip_tokenizer, tokenizer_files
from fmbseg.models.protocols import ClipModel
from fmbseg.models.weights import MissingWeightsError
from tests.support.small_clip import SMALL, random_image, upstream_pixels

TOWERS: dict[str, dict[str, Any]] = {
    "siglip": {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    "pooled": {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
    "class token": {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": None},
    "eva": {
        "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": "linear",
        "image_size": 224,
    },
    "convolutions": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": None},
}  # fmt: skip
PX = 160


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network was tried")

    monkeypatch.setattr("socket.socket.connect", forbidden)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder a tower; SigLIP's head has no projection, so the joint space is the trunk's."""
    made = {}
    for name, tower in TOWERS.items():
        path = made[name] = tmp_path_factory.mktemp("clip")
        vision = {"image_size": PX, "timm_model_pretrained": True, **tower}
        dim = 64 if name == "siglip" else 24
        config = {**SMALL, "custom_text": True, "embed_dim": dim, "vision_cfg": vision}
        preprocess = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
        text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
        (path / "open_clip_config.json").write_text(text)
        torch.manual_seed(2)
        config["vision_cfg"] = {**vision, "timm_model_pretrained": False}
        model = open_clip.CustomTextCLIP(
            **{key: value for key, value in config.items() if key != "custom_text"}
        )
        with torch.no_grad():
            for parameter in model.visual.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return made


def built(folders, name, projection="maskclip", **options) -> OpenClipDense:
    return build_clip(f"local-dir:{folders[name]}", projection=projection, **options)


@pytest.mark.parametrize("name", TOWERS)
def test_a_crops_feature_is_the_towers_own_and_the_map_covers_the_image(folders, name):
    clip = built(folders, name)
    assert isinstance(clip, ClipModel)
    side = clip.crop_hw[0]
    square = random_image(side, side)
    with torch.no_grad():
        theirs = clip.model.encode_image(upstream_pixels(clip.model, square), normalize=True)
    torch.testing.assert_close(clip.encode_dense(square).cls, theirs, rtol=1e-4, atol=1e-5)
    dense = clip.encode_dense(random_image(side, side + 2 * clip.patch_hw[1]))
    assert dense.patches.shape == (
        side // clip.patch_hw[0], side // clip.patch_hw[1] + 2, clip.dim,
    )  # fmt: skip
    torch.testing.assert_close(dense.patches.norm(dim=2), torch.ones(dense.patches.shape[:2]))
    assert len(dense.cls) == 2
    assert clip.encode_text(["cat", "brick wall"]).shape == (2, clip.dim)


def test_attention_pooling_hands_each_patch_its_own_value(folders):
    clip = built(folders, "siglip")
    image = random_image(PX, PX)
    trunk = clip.model.visual.trunk
    pool = trunk.attn_pool
    with torch.no_grad():
        tokens = trunk.forward_features(upstream_pixels(clip.model, image))[0]
        cols, rows = trunk.patch_embed.grid_size[1], []
        for token in tokens[trunk.num_prefix_tokens :]:
            value = pool.kv(token)[len(token) :]
            out = pool.proj(value)
            rows.append(normalize(trunk.fc_norm(out + pool.mlp(pool.norm(out))), dim=0))
    found = clip.encode_dense(image).patches
    for index, row in enumerate(rows):
        torch.testing.assert_close(found[index // cols, index % cols], row, rtol=1e-3, atol=1e-4)


def test_a_class_token_tower_of_timm_hands_each_patch_the_last_blocks_value(folders):
    clip = built(folders, "class token")
    image = random_image(PX, PX)
    trunk = clip.model.visual.trunk
    *blocks, last = trunk.blocks
    with torch.no_grad():
        x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(upstream_pixels(clip.model, image))))
        for block in blocks:
            x = block(x)
        cols, width = trunk.patch_embed.grid_size[1], x.shape[2]
        rows = []
        for token in x[0, trunk.num_prefix_tokens :]:
            value = last.attn.qkv(last.norm1(token))[2 * width :]
            out = trunk.norm(last.ls1(last.attn.proj(value)))
            rows.append(normalize(trunk.head(trunk.fc_norm(out)), dim=0))
    found = clip.encode_dense(image).patches
    for index, row in enumerate(rows):
        torch.testing.assert_close(found[index // cols, index % cols], row, rtol=1e-3, atol=1e-4)
    plain = built(folders, "class token", "plain").encode_dense(image).patches
    assert (plain - found).abs().max() > 1e-3


def test_the_mean_of_patches_before_unit_length_is_what_a_mean_pooling_tower_answers(folders):
    clip = built(folders, "pooled")
    pixels = upstream_pixels(clip.model, random_image(PX, PX))
    with torch.inference_mode():
        image, patches = clip._tower(pixels)
    torch.testing.assert_close(image, patches.mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("projection", ["sclip", "naclip"])
@pytest.mark.parametrize("name", ["siglip", "eva", "convolutions"])
def test_projections_of_open_clips_own_block_are_refused_in_words(folders, name, projection):
    with pytest.raises(ValueError, match=rf"models\.projection: found {projection}.*maskclip"):
        built(folders, name, projection)


def test_a_tower_that_gives_no_patches_is_refused_in_words(monkeypatch):
    vision = {
        "timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": "avg", "image_size": 224,
    }  # fmt: skip
    config = {**SMALL, "custom_text": True, "vision_cfg": vision}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-swin", config)
    with pytest.raises(ValueError, match="SwinTransformer gives no features of single patches"):
        build_clip("small-swin")


@pytest.mark.parametrize("name", ["hf-hub:owner/runs-code", "local-dir:/tmp/x", "no_such_tower"])
def test_a_tower_that_timm_does_not_list_is_refused(folders, tmp_path, name):
    config = json.loads((folders["siglip"] / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = name
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").touch()
    with pytest.raises(ValueError, match="looked up on a hub"):
        build_clip(f"local-dir:{tmp_path}")


def test_siglips_tokenizer_is_read_from_the_cache_alone(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    from tokenizers import Tokenizer, models, pre_tokenizers

    name, repo = "ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP"
    assert tokenizer_files(name, None) == [(repo, file) for file in TOKENIZER_FILES]
    with pytest.raises(MissingWeightsError, match="fmbseg download --weights"):
        build_clip_tokenizer(name, None)
    folder = tmp_path / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "cat": 1, "sky": 2, "[UNK]": 3}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(snapshot / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (snapshot / "tokenizer_config.json").write_text(json.dumps(kind))
    tokens = build_clip_tokenizer(name, None)(["cat sky", "cat"])
    assert tokens.shape == (2, 64)
    assert tokens[:, :3].tolist() == [[1, 2, 0], [1, 0, 0]]
