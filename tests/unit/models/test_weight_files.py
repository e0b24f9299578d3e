"""Which files serve as whose weights, and what a CLIP file tells of itself."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from fmbseg.models.build import build_clip, build_vision
from fmbseg.models.clip_weights import clip_config_of
from fmbseg.models.profiles import resolve_profile
from fmbseg.models.weights import ModelError
from fmbseg.params import load_params
from fmbseg.steps.foundation_models import overrides_of
from tests.conftest import REPOSITORY
from tests.support.official_weights import CLIP, Gelu, save_torchscript, small_clip_state

PARAMS = REPOSITORY / "params.yaml"


def test_openais_own_file_and_metas_serve_where_the_hubs_are_not_here(home):
    path = home / ".cache/clip/Small-Test.pt"
    path.parent.mkdir(parents=True)
    state = small_clip_state()
    save_torchscript(path, state)
    found = build_clip(CLIP, "openai").model.state_dict()
    assert all(torch.equal(found[key], state[key].half().float()) for key in state)
    import timm

    name = "test_vit.r160_in1k"
    meta = {key: value for key, value in timm.create_model(name).state_dict().items()
            if not key.startswith("head.")}  # fmt: skip
    torch.save(meta | {"mask_token": torch.zeros(1, 64)}, home / "dinov2_pretrain.pth")
    encoder = build_vision(name, str(home / "dinov2_pretrain.pth"))
    assert torch.equal(encoder.model.state_dict()["cls_token"], meta["cls_token"])


def test_weights_alone_override_a_profile(home):
    save_torchscript(home / "mine.pt", small_clip_state())
    text = PARAMS.read_text().replace("profile: miniature", "profile: base")
    Path("params.yaml").write_text(re.sub(r"  clip: .*", "  clip: {pretrained: mine.pt}", text))
    section = load_params("params.yaml").models
    found = resolve_profile(section.profile, overrides_of(section)).clip
    assert (found.name, found.pretrained) == ("ViT-B-16-quickgelu", "mine.pt")
    assert clip_config_of(found.name, found.pretrained)[0]["quick_gelu"] is True


def test_every_example_beside_a_model_in_params_yaml_resolves(home):
    section = PARAMS.read_text().split("\nmodels:")[1].split("\n\n")[0]
    Path("weights").mkdir()
    save_file({"x": torch.zeros(1)}, "weights/ViT-B-16.pt")
    save_file({"x": torch.zeros(1)}, "weights/clip.safetensors")
    seen = 0
    for model, comment in re.findall(r"^  (clip|sam|vision): +# (.*)$", section, re.M):
        for example in re.findall(r"\{.*?\}", comment):
            keys = yaml.safe_load(example)
            for profile in ["base"] + ["miniature"] * ("name" in keys):
                spec = getattr(resolve_profile(profile, {model: keys}), model)
                if model == "clip":
                    clip_config_of(spec.name, spec.pretrained, spec.quick_gelu)
            seen += 1
    assert seen >= 5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"clip": {"pretrained": "openai"}}, "miniature brings its own weights"),
        ({"sam": {"checkpoint": "sam_vit_b_01ec64.pth"}}, "miniature brings its own weights"),
    ],
)
def test_weights_for_a_model_that_brings_its_own_are_refused(overrides, words):
    with pytest.raises(ModelError, match=words):
        resolve_profile("miniature", overrides)


def test_a_converted_clip_file_of_unknown_origin_needs_a_word_on_quickgelu(home):
    save_file(small_clip_state(), "converted.safetensors")
    torch.save(small_clip_state(), "converted.pt")
    for file in ("converted.safetensors", "converted.pt"):
        with pytest.raises(ModelError, match=r"set models\.clip\.quick_gelu") as caught:
            build_clip(CLIP, file)
        assert len(str(caught.value).splitlines()) == 1
        with_it, without = (build_clip(CLIP, file, quick_gelu=one) for one in (True, False))
        assert not torch.allclose(with_it.encode_text(["cat"]), without.encode_text(["cat"]))
    assert resolve_profile("base", {"clip": {"name": "ViT-L-14-quickgelu"}}).clip.quick_gelu is True


def test_a_clip_file_tells_its_activation_where_its_origin_is_known(home):
    state, sizes = small_clip_state(), ("input_resolution", "context_length", "vocab_size")
    torch.save(state | {name: torch.tensor(1) for name in sizes}, "saved_again.pt")
    torch.save(state, "ViT-L-14.pt")
    torch.save(state, "vit_b_16-laion400m_e32-55e67d44.pt")
    save_torchscript("archive.pt", state)
    save_torchscript("gelu.pt", state, Gelu)
    trained_with = {
        "saved_again.pt": True, "ViT-L-14.pt": True, "archive.pt": True, "gelu.pt": False,
        "vit_b_16-laion400m_e32-55e67d44.pt": False,
    }  # fmt: skip
    for file, quick in trained_with.items():
        right, wrong = ("ViT-B-16-quickgelu", "ViT-B-16")[:: 1 if quick else -1]
        assert bool(clip_config_of(right, file)[0].get("quick_gelu")) is quick
        with pytest.raises(ModelError, match=f"QuickGELU mismatch.*use name {right}$"):
            clip_config_of(wrong, file)
