"""Weight files in the official formats with random numbers inside, of small architectures."""

import hashlib
from dataclasses import replace

import open_clip
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from torch import nn

from fmbseg.models.sam_architecture import build_sam_from_config
from fmbseg.models.sam_weights import PUBLISHED
from tests.support.small_clip import SMALL

CLIP, REPO = "small-test", "owner/small"
SAM = {
    "image_size": 64, "patch_size": 8,
    "encoder": {
        "embed_dim": 16, "depth": 2, "num_heads": 2, "window_size": 4,
        "global_attn_indexes": [1], "use_rel_pos": True,
    },
    "prompt_embed_dim": 16, "mask_in_chans": 4,
    "decoder": {"depth": 2, "num_heads": 2, "mlp_dim": 32},
    "num_multimask_outputs": 3, "iou_head": {"depth": 2, "hidden_dim": 16},
    "pixel_mean": [123.675, 116.28, 103.53], "pixel_std": [58.395, 57.12, 57.375],
}  # fmt: skip


class Part(nn.Module):
    """One node of a module tree, with what is registered in it later."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Gelu(Part):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x)


def small_clip_state(seed=3):
    torch.manual_seed(seed)
    return open_clip.CLIP(**SMALL).state_dict()


def save_torchscript(path, state, activation=Part):
    """OpenAI's form: a TorchScript archive, half precision, with three sizes among the weights."""
    root = activation()
    sizes = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}
    for name, tensor in state.items():
        *parents, last = name.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, Part())
            node = getattr(node, parent)
        node.register_parameter(last, nn.Parameter(tensor.half(), requires_grad=False))
    for name, value in sizes.items():
        root.register_buffer(name, torch.tensor(value))
    torch.jit.script(root).save(path)


def small_architectures(monkeypatch, home):
    """The published names stand for small architectures, their places lie below `home`."""
    entry = {"openai": open_clip.pretrained._pcfg(
        url=f"https://openaipublic.azureedge.net/clip/models/{'0' * 64}/Small-Test.pt",
        hf_hub=f"{REPO}/", quick_gelu=True,
    )}  # fmt: skip
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, CLIP, SMALL)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, CLIP, entry)
    monkeypatch.setitem(sam_model_registry, "vit_b", lambda: build_sam_from_config(SAM))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for flag in ("FMBSEG_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(flag, raising=False)


def hub_file(home, name, repo=REPO):
    """A path in the Hugging Face cache, which lies there as in a blob named by its hash."""
    base = home / "hub" / f"models--{repo.replace('/', '--')}"
    (base / "refs").mkdir(parents=True, exist_ok=True)
    (base / "refs" / "main").write_text("abc")
    path = base / "snapshots" / "abc" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def into_blob(path):
    """Move a file of the cache to its blob, as the hub's client lays it down."""
    blob = path.parents[2] / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
    blob.parent.mkdir(exist_ok=True)
    path.rename(blob)
    path.symlink_to(blob)
    return blob


def save_sam(home, monkeypatch):
    """Meta's file in torch hub's folder; its MD5 counts as the published one."""
    path = home / "torch" / "hub" / "checkpoints" / "sam_vit_b_01ec64.pth"
    path.parent.mkdir(parents=True)
    torch.save(build_sam_from_config(SAM).state_dict(), path)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, "vit_b", replace(PUBLISHED["vit_b"], md5=md5))
    return path


def save_clip(home):
    path = hub_file(home, "open_clip_model.safetensors")
    save_file(small_clip_state(), path)
    into_blob(path)
    return path


def save_vision(home):
    import timm

    name = "test_vit.r160_in1k"
    path = hub_file(home, "model.safetensors", f"timm/{name}")
    save_file(timm.create_model(name).state_dict(), path)
    into_blob(path)
    return name, path
