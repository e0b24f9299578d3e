"""`fmbseg download --weights`: SAM by our own client, the others by the hub's, on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from fmbseg.cli import main
from fmbseg.fetch.weights import fetch_weights
from fmbseg.models import sam_weights
from fmbseg.models.profiles import PROFILES
from tests.support.http_server import file_server

CONTENT = np.random.default_rng(0).bytes(100_000)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLIP = "timm/vit_base_patch16_clip_224.openai"
VISION = "timm/vit_base_patch14_dinov2.lvd142m"


def test_every_published_sam_has_an_address_and_the_md5_its_name_ends_in():
    for name, published in sam_weights.PUBLISHED.items():
        source = sam_weights.sam_source(name, published.file)
        assert source.address.endswith(f"/{published.file}")
        assert source.md5.startswith(Path(published.file).stem.rsplit("_", 1)[1])
        assert len(source.md5) == 32


def test_a_profile_that_ships_with_the_package_fetches_nothing(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["download", "--weights", "miniature"]) == 0
    assert capsys.readouterr().out.count("miniature") >= 3


def test_the_models_that_params_yaml_names_in_place_of_the_profiles_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    text = (Path(__file__).parents[3] / "params.yaml").read_text()
    other = text.replace("profile: miniature", "profile: base").replace(
        "\n  sam:", "\n  sam: {name: vit_l}  #"
    )
    (tmp_path / "params.yaml").write_text(other)
    for profile, file in (("base", "sam_vit_l_0b3195.pth"), ("paper", "sam_vit_h_4b8939.pth")):
        command = ["download", "--weights", profile, "--params", str(tmp_path / "params.yaml")]
        assert main(command) == 2, "offline"
        assert file in capsys.readouterr().err


def test_sams_file_is_checked_against_its_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fmbseg.fetch import DownloadError

    monkeypatch.delenv("FMBSEG_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "sam_vit_b_01ec64.pth"
    with file_server() as server:
        monkeypatch.setattr(
            sam_weights, "_URL", server.serve(f"/{name}", CONTENT).removesuffix(name)
        )
        with pytest.raises(DownloadError, match="wanted 01ec64d29a2fca3f0661936605ae66f8"):
            fetch_weights("base")
    assert not (tmp_path / "hub/checkpoints" / name).exists()


@pytest.mark.slow
def test_all_three_models_of_a_profile_land_where_their_packages_look(tmp_path: Path):
    name = PROFILES["base"].sam.checkpoint
    md5 = hashlib.md5(CONTENT).hexdigest()
    with file_server() as server:
        address = server.serve(f"/{name}", CONTENT).removesuffix(str(name))
        for repo, file in ((CLIP, "open_clip_model.safetensors"), (VISION, "model.safetensors")):
            headers = {"X-Repo-Commit": COMMIT}
            server.serve(f"/{repo}/resolve/main/{file}", CONTENT, headers=headers)
        code = f"""
            import json
            from dataclasses import astuple, replace
            from fmbseg.fetch.weights import fetch_weights
            from fmbseg.models import sam_weights
            from fmbseg.models.profiles import PROFILES
            sam_weights._URL = {address!r}
            sam_weights.PUBLISHED["vit_b"] = replace(sam_weights.PUBLISHED["vit_b"], md5={md5!r})
            def place(role):
                family, spec = PROFILES["base"].part(role)
                return str(family.source(*astuple(spec)).find())
            found = fetch_weights("base")
            print(json.dumps([[one.model, one.missing, one.present, one.where,
                place(one.model)] for one in found]))
        """
        environment = os.environ | {
            "HF_ENDPOINT": server.url(""), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0", "FMBSEG_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "TORCH_HOME": str(tmp_path / "torch"), "no_proxy": "127.0.0.1",
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], env=environment, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
    found = json.loads(run.stdout.splitlines()[-1])
    assert [model for model, *_ in found] == ["clip", "sam", "vision"]
    for _, missing, present, where, path in found:
        assert Path(path).is_relative_to(tmp_path)
        assert Path(path).read_bytes() == CONTENT
        assert not missing
        assert not present, "what was served is no weight file, and it is said"
        assert path in where
