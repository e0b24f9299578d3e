"""Files in the official formats: found, told apart, refused in one line, hashed into keys."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from fmbseg.cli import main
from fmbseg.fetch.weights import fetch_weights
from fmbseg.models.build import build_clip, build_model, build_vision
from fmbseg.models.clip_weights import HUB_FILES
from fmbseg.models.status import missing_weights, weights_fingerprint, weights_status
from fmbseg.models.weights import MissingWeightsError
from fmbseg.steps.foundation_models import models_params
from fmbseg.steps.workspace import Workspace
from fmbseg.store import write_json
from tests.conftest import REPOSITORY
from tests.support.official_weights import CLIP, REPO, save_sam

PARAMS = REPOSITORY / "params.yaml"


def doctor_lines(overrides, capsys):
    tree = yaml.safe_load(PARAMS.read_text())
    tree["models"] |= {"profile": "base", **overrides}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    code = main(["doctor"])
    out = capsys.readouterr().out.split("weights of the profile")[1]
    return code, out.split("\nsettings of")[0].splitlines()


def test_present_means_that_it_will_load(weights, capsys):
    overrides, _ = weights
    code, lines = doctor_lines(overrides, capsys)
    assert code == 0
    assert [line.split()[-1] for line in lines[1::2]] == ["present"] * 3
    assert missing_weights("base", overrides) is None
    build_clip(CLIP, "openai")
    build_model("sam", "base", overrides)
    build_vision(overrides["vision"]["name"])


@pytest.mark.parametrize("model", ["clip", "sam", "vision"])
@pytest.mark.parametrize("wrong", ["cut", "web page", "another", "other bytes", "empty"])
def test_a_wrong_file_is_one_line_and_not_present(model, wrong, weights, capsys):
    overrides, files = weights
    path = files[model]
    whole = path.read_bytes()
    if wrong == "another":
        save_file({"some.weight": torch.zeros(3)}, path.resolve())
    else:
        changed = whole[:-1] + bytes([whole[-1] ^ 1])
        content = {
            "cut": whole[: len(whole) // 2], "web page": b"<!DOCTYPE html><p>404 Not Found</p>",
            "other bytes": changed, "empty": b"",
        }[wrong]  # fmt: skip
        path.resolve().write_bytes(content)
    code, lines = doctor_lines(overrides, capsys)
    assert code == 1
    row = next(index for index, line in enumerate(lines) if line.split()[0] == model)
    assert lines[row].endswith("WRONG")
    assert path.name in lines[row + 1]
    assert "fmbseg download --weights base" in lines[row + 1]
    words = {"cut": "cut short|web|fit", "web page": "web page", "another": "do not fit",
             "other bytes": "published|cut short", "empty": "0 bytes"}  # fmt: skip
    assert re.search(words[wrong], lines[row + 1])
    if wrong != "other bytes":
        said = missing_weights("base", overrides)
        assert said is not None
        assert path.name in said


def test_doctor_names_every_place_it_looked_at_and_the_other_official_files(home, capsys):
    code, lines = doctor_lines({}, capsys)
    text = "\n".join(lines)
    assert code == 1
    for path in (
        home / "hub/models--timm--vit_base_patch16_clip_224.openai/snapshots/*" / HUB_FILES[0],
        home / ".cache/clip/ViT-B-16.pt",
        home / "torch/hub/checkpoints/sam_vit_b_01ec64.pth",
        home / "torch/hub/checkpoints/dinov2_vitb14_pretrain.pth",
        home / "hub/models--timm--vit_base_patch14_dinov2.lvd142m/snapshots/*/model.safetensors",
    ):  # fmt: skip
        assert f"looked for {path}" in text
    assert text.endswith("(fmbseg doctor shows where each belongs)")
    assert "fmbseg download --weights base" in lines[-1]


def test_missing_weights_have_one_answer_whatever_flags_are_set(home, monkeypatch):
    for flag in (None, "HF_HUB_OFFLINE", "FMBSEG_OFFLINE"):
        if flag:
            monkeypatch.setenv(flag, "1")
        with pytest.raises(MissingWeightsError) as caught:
            build_model("sam", "base", {})
        assert "fmbseg download --weights base" in str(caught.value)
        assert "fmbseg download --weights base" in str(missing_weights("base", {}))
        assert "OFFLINE" not in f"{caught.value} {missing_weights('base', {})}"


def test_download_says_which_flag_of_the_shell_forbids_it(home, monkeypatch, capsys):
    save_sam(home, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["download", "--weights", "base", "--params", str(PARAMS)]) == 2
    error = capsys.readouterr().err
    assert "HF_HUB_OFFLINE is set in this shell; unset it" in error
    assert error.count("\n") == 1


def test_other_bytes_in_a_published_place_change_the_fingerprint(weights):
    overrides, files = weights
    first = weights_fingerprint("base", overrides)
    assert all("sha256:" in value for value in first.values())
    for model, path in files.items():
        before = weights_fingerprint("base", overrides)
        real = path.resolve()
        real.write_bytes(real.read_bytes() + b"\0")
        after = weights_fingerprint("base", overrides)
        assert [role for role in before if before[role] != after[role]] == [model]


def test_the_name_stands_in_for_weights_that_are_not_here_and_no_run_fetches_them(home):
    named = weights_fingerprint("base", {})
    assert named == {
        "clip": "ViT-B-16-quickgelu openai", "sam": "vit_b sam_vit_b_01ec64.pth",
        "vision": "vit_base_patch14_dinov2.lvd142m",
    }  # fmt: skip
    with pytest.raises(MissingWeightsError):
        build_model("sam", "base", {})
    assert weights_fingerprint("base", {}) == named


def test_outputs_stay_valid_where_their_weights_are_not_here(small_workspace, home):
    text = yaml.safe_load((small_workspace / "params.yaml").read_text())
    text["models"]["profile"] = "base"
    (small_workspace / "params.yaml").write_text(yaml.safe_dump(text))
    workspace = Workspace.open(small_workspace)
    sam = "vit_b sha256:" + "a" * 64
    parts = {"params": {"weights": {"clip": "another sha256:b", "sam": sam}}}
    write_json(workspace.pseudo_masks / "00000" / "manifest.json", {"parts": parts})
    assert models_params(workspace, "clip", "sam")["weights"] == {
        "clip": "ViT-B-16-quickgelu openai", "sam": sam,
    }  # fmt: skip


def test_download_replaces_a_published_file_of_other_bytes(weights, monkeypatch):
    overrides, files = weights
    whole = files["clip"].read_bytes()
    files["clip"].resolve().write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    asked = []

    def serve(repo, name, cache_dir=None):
        assert not files["clip"].exists(), "the hub's client would take what lies there"
        asked.append((repo, name))
        files["clip"].write_bytes(whole)
        return str(files["clip"])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", serve)
    files["sam"].rename("sam.pth")
    overrides = overrides | {"sam": {"name": "vit_b", "checkpoint": "sam.pth"}}
    assert [one.present for one in fetch_weights("base", overrides)] == [True] * 3
    assert asked == [(REPO, HUB_FILES[0])]


def test_status_knows_a_file_of_another_name_by_its_path(weights):
    overrides, files = weights
    rows = {row.model: row for row in weights_status("base", overrides, checksums=True)}
    assert {role: row.where for role, row in rows.items()} == {
        role: str(path) for role, path in files.items()
    }
