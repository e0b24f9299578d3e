import huggingface_hub
import pytest
import torch

from fmbseg.models import status
from fmbseg.models.build import build_model
from fmbseg.models.device import resolve_device
from fmbseg.models.profiles import PROFILES, resolve_profile
from fmbseg.models.status import weights_fingerprint, weights_status
from fmbseg.models.weights import content_sha256, find_hub_file, offline_flags


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_profiles_name_quickgelu_clip_and_published_weights():
    assert PROFILES["base"].clip.name == "ViT-B-16-quickgelu"
    assert PROFILES["base"].sam.name == "vit_b"
    assert PROFILES["base"].vision.name == "vit_base_patch14_dinov2.lvd142m"
    assert PROFILES["paper"].clip.name == "ViT-L-14-quickgelu"
    assert PROFILES["paper"].sam.checkpoint == "sam_vit_h_4b8939.pth"
    assert PROFILES["paper"].vision.name == "vit_large_patch14_dinov2.lvd142m"
    assert {p.clip.pretrained for p in PROFILES.values()} == {None, "openai"}


def test_overrides_replace_key_by_key():
    models = resolve_profile(
        "base", {"clip": {"name": "ViT-L-14-quickgelu"}, "sam": {"name": "vit_l"}, "vision": None}
    )
    assert (models.clip.name, models.clip.pretrained) == ("ViT-L-14-quickgelu", "openai")
    assert models.sam.checkpoint == "sam_vit_l_0b3195.pth"
    assert models.vision == PROFILES["base"].vision


@pytest.mark.parametrize(
    ("profile", "overrides", "message"),
    [
        ("huge", {}, "models.profile"),
        ("base", {"dino": {}}, "dino"),
        ("base", {"clip": {"tag": "openai"}}, r"models\.clip\.tag"),
        ("miniature", {"clip": {"name": "ViT-B-16"}}, "random weights"),
        ("base", {"sam": {"checkpoint": None}}, "random weights"),
        ("base", {"vision": {"pretrained": False}}, "random weights"),
    ],
)
def test_overrides_that_cannot_serve_are_refused(profile, overrides, message):
    with pytest.raises(ValueError, match=message):
        resolve_profile(profile, overrides)


def test_the_status_tells_for_each_model_whether_and_where_its_weights_are(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    rows = {row.model: row for row in weights_status("paper", {})}
    assert list(rows) == ["clip", "sam", "vision"]
    assert not any(row.present for row in rows.values())
    assert rows["clip"].name == "ViT-L-14-quickgelu (openai)"
    assert "huggingface.co/timm/vit_large_patch14_clip_224.openai" in rows["clip"].where
    assert str(tmp_path / "checkpoints/sam_vit_h_4b8939.pth") in rows["sam"].searched
    assert "dl.fbaipublicfiles.com" in rows["sam"].where
    assert "huggingface.co/timm/vit_large_patch14_dinov2.lvd142m" in rows["vision"].where
    file = tmp_path / "dino.safetensors"
    file.touch()
    overrides = {"vision": {"pretrained": str(file)}}
    row = weights_status("paper", overrides)[2]
    assert (row.present, row.missing) == (False, False)
    assert str(file) in row.where


def test_the_fingerprint_follows_the_content_of_a_file_and_the_name_of_what_is_not_here(
    tmp_path, monkeypatch
):
    file = tmp_path / "sam.pth"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    file.write_bytes(b"one")
    first = weights_fingerprint("base", {"sam": {"checkpoint": str(file)}})
    assert first["clip"] == "ViT-B-16-quickgelu openai"
    assert first["vision"] == "vit_base_patch14_dinov2.lvd142m"
    assert first["sam"] == f"vit_b sha256:{content_sha256(file)}"
    file.write_bytes(b"another")
    second = weights_fingerprint("base", {"sam": {"checkpoint": str(file)}})
    assert second["sam"] != first["sam"]
    assert weights_fingerprint("paper", {})["sam"] == "vit_h sam_vit_h_4b8939.pth"


def test_a_folders_fingerprint_follows_contents_and_names(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    first = content_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_sha256(tmp_path) != first


def test_weights_in_the_hugging_face_cache_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    found = find_hub_file("owner/name", ("other.bin", "model.safetensors"))
    assert found == snapshot / "model.safetensors"
    assert find_hub_file("owner/other", ("model.safetensors",)) is None
    assert huggingface_hub.__version__


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("TRUE", True), ("0", False)])
def test_offline_flags_are_read_when_they_are_needed(monkeypatch, value, offline):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("FMBSEG_OFFLINE", value)
    assert offline_flags() == (["FMBSEG_OFFLINE"] if offline else [])


def test_auto_is_a_device_of_this_machine_and_a_missing_one_is_an_error(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in {"cpu", "cuda", "mps"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="use auto or cpu"):
        resolve_device("cuda")
    with pytest.raises(ValueError, match="wanted auto"):
        resolve_device("gpu")


@pytest.mark.weights
def test_the_miniature_profile_builds_offline_from_the_package():
    missing = [row.model for row in weights_status("miniature", {}) if not row.present]
    if missing:
        pytest.skip(f"the miniature weights of {', '.join(missing)} are not here")
    clip = build_model("clip", "miniature", {}, projection="naclip", short_side_px=128)
    assert clip.encode_text(["sky"]).shape == (1, clip.dim)
    assert build_model("sam", "miniature", {}).grid_side > 0
    assert build_model("vision", "miniature", {}, short_side_px=128).dim > 0
    assert all(v.startswith("sha256:") for v in weights_fingerprint("miniature", {}).values())


def test_missing_weights_have_one_answer_that_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    answer = status.missing_weights("base", {})
    assert answer is not None
    assert "fmbseg download --weights base" in answer
    assert "ViT-B-16-quickgelu (openai)" in answer
    assert "OFFLINE" not in answer
    assert len(answer.splitlines()) == 1
    assert status.missing_weights("miniature", {}) is None
