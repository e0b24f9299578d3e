"""`build_clip`: an open_clip architecture, its weights read as tensors and nothing else."""

from pathlib import Path
from typing import Any

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
    set_model_preprocess_cfg,
)
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from fmbseg.models.batches import BudgetGb
from fmbseg.models.clip import OpenClipDense
from fmbseg.models.clip_config import (
    TEMPLATE,
    build_clip_tokenizer,
    clip_class,
    read_clip_config,
    require_known_towers,
)
from fmbseg.models.clip_towers import tower_of
from fmbseg.models.clip_weights import clip_config_of, clip_folder, clip_source
from fmbseg.models.device import resolve_device
from fmbseg.models.images import ShortSide
from fmbseg.models.precision import Precision
from fmbseg.models.tensor_files import load_all_weights, read_weights
from fmbseg.models.weights import ModelError

_PREPROCESS = ("mean", "std", "interpolation")
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What OpenAI's archives hold beside the weights."""


def build_clip(
    name: str,
    pretrained: str | Path | None = None,
    projection: str = "maskclip",
    device: str | torch.device = "cpu",
    *,
    quick_gelu: bool | None = None,
    template: str = TEMPLATE,
    short_side_px: ShortSide = None,
    stride_fraction: float = 0.5,
    batch_crops: int = 32,
    precision: Precision = "float32",
    batch_memory_gb: BudgetGb = "auto",
) -> OpenClipDense:
    """Build a frozen CLIP; nothing is fetched, and no weight file can run code.

    Args:
        name: an open_clip name, "local-dir:<folder>", "hf-hub:<owner>/<name>" or "miniature".
        pretrained: a tag of open_clip, a checkpoint file, or None for random weights; folders
            and hub names bring their own.
        projection: "maskclip", "sclip" or "naclip": how the last block gives patch features; a
            tower of timm answers "maskclip" (see `clip_towers`).
        device: "auto" or a device of torch.
        quick_gelu: whether a file's weights were trained with QuickGELU; None where its origin
            tells (see `clip_config_of`).
        template: one `{}` stands for the class name.
        short_side_px: the image is resized to this before it is cut; None keeps its scale.
            Either way it is enlarged to at least one crop.
        stride_fraction: stride of the crops over their size, above 0, up to 1.
        batch_crops: crops that go through the encoder at once on a processor.
        precision: that its towers compute in.
        batch_memory_gb: for the crops that go through at once on CUDA; see `Batches`.

    Raises:
        MissingWeightsError: the weights are not here.
        ModelError: unknown name or tag, the name's activation is not the one the weights were
            trained with (QuickGELU), or the file cannot serve.
    """
    target = resolve_device(device)
    tag = None if pretrained is None else str(pretrained)
    model = clip_model(name, tag, quick_gelu).to(target).eval().requires_grad_(False)
    return OpenClipDense(
        model,
        tower_of(model.visual, projection),
        build_clip_tokenizer(name, clip_folder(name)),
        target,
        template=template,
        short_side_px=short_side_px,
        stride_fraction=stride_fraction,
        batch_crops=batch_crops,
        precision=precision,
        batch_memory_gb=batch_memory_gb,
    )


def clip_model(
    name: str, tag: str | None, quick_gelu: bool | None = None, device: str = "cpu"
) -> Any:
    """The open_clip model with its weights and its preprocessing; on "meta" it is only checked.

    Raises:
        MissingWeightsError: see `build_clip`.
        ModelError: see `build_clip`.
    """
    folder = clip_folder(name)
    if folder is not None:
        config, preprocess = read_clip_config(folder)
    else:
        config, entry = clip_config_of(name, tag, quick_gelu)
        preprocess = {key: entry[key] for key in _PREPROCESS if key in entry} if entry else {}
        require_known_towers(config, f"models.clip.name {name}")
    kind, arguments = clip_class(config)
    try:
        with torch.device(device):
            model = kind(**arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError) as error:
        line = " ".join(str(error).split())[:160]
        raise ModelError(f"CLIP {name}: no architecture of open_clip ({line})") from None
    size = {"size": getattr(model.visual, "image_size", 224)}
    defaults = vars(PreprocessCfg())
    set_model_preprocess_cfg(model, merge_preprocess_dict({**defaults, **size}, preprocess) | size)
    if folder is not None or tag is not None:
        source = clip_source(name, tag, quick_gelu)
        load_clip_weights(model, source.require(), source.what, device)
    return model


def check_clip(name: str, pretrained: str | None, quick_gelu: bool | None = None) -> None:
    """Whether the weights and the tokenizer on this machine fit; numbers are not read.

    Raises:
        MissingWeightsError: see `build_clip`.
        ModelError: see `build_clip`.
    """
    clip_model(name, pretrained, quick_gelu, device="meta")
    build_clip_tokenizer(name, clip_folder(name))


def load_clip_weights(model: Any, path: Path, what: str, device: str = "cpu") -> None:
    """Load weights as open_clip's own `load_checkpoint` does, from tensors read without code.

    Raises:
        ModelError: the file cannot be read, or holds another architecture.
    """
    state = {k: v for k, v in read_weights(path, device).items() if k not in _NO_WEIGHTS}
    what = f"{what} ({path.name})" if path.name not in what else what
    try:
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        if "logit_scale" in state:
            state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    except (KeyError, IndexError, RuntimeError, ValueError, AttributeError, AssertionError):
        pass  # another architecture, which the comparison of all names and shapes puts in words
    load_all_weights(model, state, what)
