"""GroupViT: a small model of transformers' own class, random weights, against its own forward."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from torch.nn.functional import interpolate, normalize

from fmbseg.methods.base import Prompts, SlidingSegmentation
from fmbseg.methods.groupvit import build_groupvit
from fmbseg.models.weights import MissingWeightsError
from tests.clip_small import random_image

transformers = pytest.importorskip("transformers")
MEAN, STD = [0.4, 0.5, 0.3], [0.2, 0.3, 0.25]
NAMES = ["cat", "sky", "brick wall", "x"]


def pixels_of(image):
    """An image as the model was trained to see it."""
    resized = PilImage.fromarray(image).resize((32, 32), PilImage.Resampling.BICUBIC)
    pixels = (torch.tensor(np.asarray(resized)) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return pixels.permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("groupvit")
    letters = [*map(chr, range(ord("a"), ord("z") + 1)), ".", '"']
    tokens = [*letters, *(f"{t}</w>" for t in letters), "<|startoftext|>", "<|endoftext|>"]
    transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[]
    ).save_pretrained(path)
    end = len(tokens) - 1
    config = transformers.GroupViTConfig(
        text_config={
            "vocab_size": len(tokens), "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 40,
            "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end,
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
            "depths": [2, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 4],
            "num_attention_heads": 2, "image_size": 32, "patch_size": 4,
        },
        projection_dim=12, projection_intermediate_dim=20,
    )  # fmt: skip
    torch.manual_seed(2)
    model = transformers.GroupViTModel(config)
    with torch.no_grad():  # groups that differ, and patches that choose between them
        for name, parameter in model.named_parameters():
            chooses = "assign" in name and ("q_proj.weight" in name or "k_proj.weight" in name)
            strength = 3.0 if "group_token" in name else 2.0 if chooses else 0.5
            parameter.add_(strength * torch.randn_like(parameter))
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )
    return path


def their_logits(folder, image, texts):
    """`outputs.segmentation_logits` of the model itself, and its logit scale."""
    model = transformers.GroupViTModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(
            **tokenizer(texts, padding=True, return_tensors="pt"),
            pixel_values=pixels_of(image),
            output_segmentation=True,
        )
    return outputs.segmentation_logits[0], model.logit_scale.exp().detach()


@pytest.mark.parametrize("image_hw", [(32, 32), (24, 45), (70, 33)])
def test_similarities_are_the_models_segmentation_logits_interpolated(folder, image_hw) -> None:
    image = random_image(*image_hw)
    found = build_groupvit(f"local-dir:{folder}").segment(image, NAMES, similarities=True)
    logits, scale = their_logits(folder, image, [f"a photo of a {name}." for name in NAMES])
    expected = interpolate(logits[None], image_hw, mode="bilinear", align_corners=False)[0]
    assert found.similarities.shape == (len(NAMES), *image_hw)
    np.testing.assert_allclose(found.similarities, (expected / scale**2).numpy(), atol=1e-5)
    assert found.similarities.std(axis=(1, 2)).max() > 1e-3
    assert np.abs(found.similarities).max() <= 1 + 1e-5
    assert np.array_equal(found.labels, found.similarities.argmax(0))
    assert found.class_names == tuple(NAMES)


def test_scores_follow_the_names_and_not_their_order(folder) -> None:
    method, image = build_groupvit(f"local-dir:{folder}"), random_image(24, 45)
    forth = method.segment(image, NAMES, similarities=True)
    back = method.segment(image, NAMES[::-1], similarities=True)
    np.testing.assert_allclose(back.similarities[::-1], forth.similarities, atol=1e-5)
    assert np.ptp(forth.similarities.mean(axis=(1, 2))) > 0.01
    assert np.array_equal(len(NAMES) - 1 - back.labels, forth.labels)


def test_several_templates_are_averaged_on_the_unit_sphere(folder) -> None:
    method, image = build_groupvit(f"local-dir:{folder}"), random_image(32, 32)
    templates = ("a {}.", "the {} here", "{}")
    found = method.prompted(Prompts(templates)).segment(image, NAMES, similarities=True)
    model = transformers.GroupViTModel.from_pretrained(folder).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    ratio = []
    for name in NAMES:
        with torch.no_grad():
            units = [
                normalize(
                    model.get_text_features(
                        **tokenizer([template.format(name)], return_tensors="pt")
                    ).pooler_output[0],
                    dim=0,
                )
                for template in templates
            ]
        ratio.append(torch.stack(units).mean(0).norm())
    parts = []
    for template in templates:
        logits, scale = their_logits(folder, image, [template.format(name) for name in NAMES])
        parts.append(logits / scale**2)
    expected = torch.stack(parts).mean(0) / torch.stack(ratio)[:, None, None]
    np.testing.assert_allclose(found.similarities, expected.numpy(), atol=1e-5)


def test_long_images_go_through_windows(folder) -> None:
    sliding = SlidingSegmentation(build_groupvit(f"local-dir:{folder}"), 40, 40, 20)
    assert sliding.segment(random_image(30, 75), NAMES).labels.shape == (30, 75)


def test_the_model_is_frozen(folder) -> None:
    method = build_groupvit(f"local-dir:{folder}")
    assert not method._model.training
    assert not any(parameter.requires_grad for parameter in method._model.parameters())


def test_missing_weights_say_whence_and_how_and_nothing_is_downloaded(
    tmp_path, monkeypatch
) -> None:
    def forbidden(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", forbidden)
    with pytest.raises(MissingWeightsError) as caught:
        build_groupvit("hf-hub:nvidia/groupvit-gcc-yfcc", cache_dir=tmp_path)
    for part in ("hf-hub:nvidia/groupvit-gcc-yfcc", "_OFFLINE is set", "By hand", "config.json",
                 "https://huggingface.co/nvidia/groupvit-gcc-yfcc"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(MissingWeightsError, match=r"model.safetensors or pytorch_model.bin"):
        build_groupvit(f"local-dir:{tmp_path}")
    with pytest.raises(ValueError, match="local-dir:<folder> or hf-hub"):
        build_groupvit("nvidia/groupvit-gcc-yfcc")


def test_a_model_in_the_hubs_cache_is_found_without_the_network(
    folder, tmp_path, monkeypatch
) -> None:
    def forbidden(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", forbidden)
    repo = tmp_path / "models--someone--groupvit"
    snapshot = repo / "snapshots" / "a1b2"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a1b2")
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    image = random_image(20, 30)
    cached = build_groupvit("hf-hub:someone/groupvit", cache_dir=tmp_path).segment(image, NAMES)
    local = build_groupvit(f"local-dir:{folder}").segment(image, NAMES)
    assert np.array_equal(cached.labels, local.labels)


def test_weights_that_leave_a_part_random_are_refused(folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["visual_projection.0.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing .*visual_projection.0.weight"):
        build_groupvit(f"local-dir:{tmp_path}")


def test_without_transformers_the_extra_is_named(folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'fmbseg\[groupvit\]'"):
        build_groupvit(f"local-dir:{folder}")
