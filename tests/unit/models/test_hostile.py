"""No file or folder of weights runs code, whatever loads it; canaries are files that are made."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch

from fmbseg.align.head import AlignmentHead
from fmbseg.align.settings import CONFIG, WEIGHTS
from fmbseg.models import trust
from fmbseg.models.build import build_clip, build_sam, build_vision
from fmbseg.models.tensor_files import read_weights
from fmbseg.models.weights import ModelError
from fmbseg.segmenter import Segmenter
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError
from tests.support.hostile_weights import ATTACKS, nested_constants, pickle_and_zip, plain_pickle
from tests.support.small_clip import SMALL, small, write_small_clip

SHIPPED = Path(__file__).parents[3] / "fmbseg/miniature/weights"
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.__name__)


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "clip"
    path.mkdir()
    return write_small_clip(path)


def refused(canary: Path, load, *arguments, **options) -> str:
    """The one line a loader refuses with; nothing ran."""
    with pytest.raises((ModelError, StoreError)) as caught:
        load(*arguments, **options)
    assert not canary.exists(), "code of the file ran"
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_canaries_sing_where_a_file_is_unpickled(tmp_path, canary):
    plain_pickle(tmp_path / "w.pt", canary)
    with pytest.raises(RuntimeError):
        torch.load(tmp_path / "w.pt", weights_only=False)
    assert canary.exists()


@attacks
def test_a_clip_weight_file_runs_no_code(attack, tmp_path, canary, monkeypatch):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small-test", SMALL)
    for name in ("ViT-B-16.pt", "w.pt", "w.bin", "w.safetensors"):
        attack(tmp_path / name, canary)
        said = refused(canary, build_clip, "small-test", tmp_path / name, quick_gelu=True)
        assert "more than tensors" in said


@attacks
@pytest.mark.parametrize(
    "file", ["open_clip_pytorch_model.bin", "x.pt", "open_clip_model.safetensors"]
)
def test_a_clip_folder_runs_no_code(attack, file, folder, canary):
    (folder / "open_clip_model.safetensors").unlink()
    attack(folder / file, canary)
    refused(canary, small, folder)


@attacks
def test_a_clip_of_the_hugging_face_cache_runs_no_code(attack, folder, hub, canary):
    cache = in_cache(hub, "owner/clip", folder)
    weights = next(cache.rglob("open_clip_model.safetensors"))
    weights.unlink()
    attack(weights.with_name("open_clip_pytorch_model.bin"), canary)
    refused(canary, build_clip, "hf-hub:owner/clip")


@attacks
def test_sam_files_and_folders_run_no_code(attack, tmp_path, canary):
    attack(tmp_path / "sam_vit_b_01ec64.pth", canary)
    refused(canary, build_sam, "vit_b", tmp_path / "sam_vit_b_01ec64.pth")
    shutil.copyfile(SHIPPED / "sam/sam_config.json", tmp_path / "sam_config.json")
    attack(tmp_path / "sam.safetensors", canary)
    refused(canary, build_sam, f"local-dir:{tmp_path}")


@attacks
def test_vision_files_folders_and_caches_run_no_code(attack, tmp_path, hub, canary):
    attack(tmp_path / "dinov2_vits14_pretrain.pth", canary)
    name = "vit_tiny_patch16_224"
    refused(canary, build_vision, name, str(tmp_path / "dinov2_vits14_pretrain.pth"))
    own = tmp_path / "vision"
    own.mkdir()
    shutil.copyfile(SHIPPED / "vision/config.json", own / "config.json")
    attack(own / "pytorch_model.bin", canary)
    refused(canary, build_vision, f"local-dir:{own}")
    in_cache(hub, "owner/vit", own)
    refused(canary, build_vision, "hf-hub:owner/vit")


@attacks
def test_an_alignment_head_runs_no_code(attack, tmp_path, canary):
    AlignmentHead(8, 4, 2).save(tmp_path)
    attack(tmp_path / WEIGHTS, canary)
    assert (tmp_path / CONFIG).is_file()
    refused(canary, AlignmentHead.load, tmp_path)


def test_torchscript_is_read_without_running_its_own_code(tmp_path, canary):
    class Acts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.x = str(canary), 1

        @torch.jit.export
        def __getstate__(self):
            return (self.place, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]):
            self.place, self.training = state
            made = torch.from_file(self.place, True, 1, dtype=torch.uint8)
            self.x = int(made.fill_(65)[0].item())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Acts()).save(tmp_path / "acts.pt")
    canary.unlink(missing_ok=True)
    refused(canary, read_weights, tmp_path / "acts.pt")
    torch.jit.load(tmp_path / "acts.pt")
    assert canary.exists(), "torch.jit.load would have run it"


def test_tensors_of_torchscript_are_those_torch_reads(tmp_path):
    class Held(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(2, 3).half())
            self.register_buffer("count", torch.arange(3))
            self.inner = torch.nn.ModuleList([torch.nn.Linear(3, 2)])
            self.view = torch.nn.Parameter(torch.randn(4, 6)[1:3, ::2])
            self.sizes, self.word = [1, 2], "x"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.inner[0](x)
            return out

    held = Held()
    torch.jit.script(held).save(tmp_path / "held.pt")
    found, wanted = read_weights(tmp_path / "held.pt"), held.state_dict()
    assert set(found) == set(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    shapes = read_weights(tmp_path / "held.pt", "meta")
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in wanted.items()}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_cfg", "hf_model_name", "owner/runs-code"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}),
        ("text_cfg", "tokenizer_kwargs", {"bpe_path": "/etc/passwd"}),
        ("vision_cfg", "timm_model_name", "hf-hub:owner/runs-code"),
        ("vision_cfg", "checkpoint_path", "/etc/passwd"),
    ],
)
def test_a_clip_folder_that_asks_for_more_than_an_architecture_is_refused(
    section, key, value, folder, canary
):
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][section] |= {key: value}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    said = refused(canary, small, folder)
    assert "open_clip_config.json" in said


def test_a_tokenizer_that_brings_code_is_refused(folder, canary):
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "anything"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    auto = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto))
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    assert "auto_map" in refused(canary, small, folder)


@attacks
def test_a_champion_of_the_registry_runs_no_code(
    attack, tmp_path, canary, small_workspace, monkeypatch
):
    from tasks.tracking.mlflow_client import registry as tracking_champion

    stored = tmp_path / "registry" / "artifacts" / "segmenter"
    AlignmentHead(8, 4, 2).save(stored)
    attack(stored / WEIGHTS, canary)
    attack(tmp_path / "registry" / "python_model.pkl", canary)
    (tmp_path / "registry" / "MLmodel").write_text(
        "flavors: {python_function: {loader_module: os, python_model: python_model.pkl}}"
    )
    version = SimpleNamespace(name="fmbseg", version="1")
    monkeypatch.setattr(tracking_champion, "registered_model", lambda *_: "fmbseg")
    monkeypatch.setattr(tracking_champion, "holder", lambda *_: version)
    client = SimpleNamespace(get_model_version_download_uri=lambda *_: str(tmp_path / "registry"))
    found = tracking_champion.download_champion(client, Workspace.open(small_workspace))
    assert found is not None
    assert {one.name for one in found.iterdir()} == {WEIGHTS, CONFIG, "manifest.json"}
    refused(canary, AlignmentHead.load, found)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hugging Face cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def in_cache(cache: Path, repo: str, folder: Path) -> Path:
    """A Hugging Face cache that holds a folder as a repository."""
    base = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, base / "snapshots" / "abc")
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("abc")
    return cache


@pytest.fixture
def trained(tmp_path, folder):
    """A trained folder of a workspace whose params.yaml names a CLIP folder."""
    out = tmp_path / "ws" / "models" / "train"
    vision = build_vision("miniature")
    AlignmentHead(vision.dim, small(folder).dim, 4).save(out)
    section = {
        "profile": "miniature", "clip": {"name": f"local-dir:{folder}"}, "sam": None,
        "vision": None, "projection": "naclip", "template": "a {}",
    }  # fmt: skip
    description = {"models": section, "input_short_side_px": 64, "trained_classes": ["sky"]}
    (out / "segmenter.json").write_text(json.dumps(description))
    return out


def test_a_path_that_leaves_a_trained_folder_is_refused_unless_somebody_vouches_for_it(
    trained, folder, canary, monkeypatch
):
    said = refused(canary, Segmenter.load, trained, "cpu")
    for words in ("outside the trained folder", str(folder), "--trust-paths", "allow_paths=True"):
        assert words in said
    assert Segmenter.load(trained, "cpu", allow_paths=True).trained_classes == ("sky",)
    monkeypatch.setenv(trust.TRUSTED, str(folder.parent))
    Segmenter.load(trained, "cpu")
    monkeypatch.delenv(trust.TRUSTED)
    params = trained.parents[1] / "params.yaml"
    params.write_text(f"models: {{clip: {{name: 'local-dir:{folder}'}}}}")
    Segmenter.load(trained, "cpu")
    params.write_text("models: {clip: {name: 'local-dir:/another'}}")
    refused(canary, Segmenter.load, trained, "cpu")


def test_a_trained_folder_may_bring_its_own_clip_but_no_way_out(trained, folder, canary):
    shutil.copytree(folder, trained / "clip")
    rename(trained, "local-dir:clip")
    Segmenter.load(trained, "cpu")
    rename(trained, "local-dir:../../../clip")
    assert "outside" in refused(canary, Segmenter.load, trained, "cpu")
    (trained / "link").symlink_to(folder)
    rename(trained, "local-dir:link")
    assert "outside" in refused(canary, Segmenter.load, trained, "cpu")
    weights = trained / "clip" / "open_clip_model.safetensors"
    weights.unlink()
    weights.symlink_to(folder / "open_clip_model.safetensors")
    rename(trained, "local-dir:clip")
    assert "outside" in refused(canary, Segmenter.load, trained, "cpu")


@pytest.mark.parametrize("attack", [nested_constants, pickle_and_zip])
def test_a_trained_folder_runs_no_code_of_the_clip_it_brings(attack, trained, folder, canary):
    shutil.copytree(folder, trained / "clip")
    (trained / "clip" / "open_clip_model.safetensors").unlink()
    attack(trained / "clip" / "open_clip_pytorch_model.bin", canary)
    rename(trained, "local-dir:clip")
    refused(canary, Segmenter.load, trained, "cpu")


def rename(trained: Path, name: str) -> None:
    path = trained / "segmenter.json"
    description = json.loads(path.read_text())
    description["models"]["clip"]["name"] = name
    path.write_text(json.dumps(description))
