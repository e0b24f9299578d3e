"""SAM from a name: checked and frozen, nothing is fetched."""

import json
from pathlib import Path

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from fmbseg.models.batches import BudgetGb
from fmbseg.models.device import resolve_device
from fmbseg.models.precision import Precision
from fmbseg.models.sam import SegmentAnything
from fmbseg.models.sam_architecture import build_sam_from_config
from fmbseg.models.sam_weights import SAM_CONFIG, sam_folder, sam_source
from fmbseg.models.tensor_files import load_all_weights, read_weights
from fmbseg.models.weights import ModelError


def build_sam(
    name: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    precision: Precision = "float32",
    batch_memory_gb: BudgetGb = "auto",
) -> SegmentAnything:
    """Build a frozen SAM; nothing is fetched.

    Args:
        name: of `sam_model_registry` (vit_b, vit_l, vit_h), "miniature", or "local-dir:<folder>"
            with sam_config.json and sam.safetensors.
        checkpoint: a file (torch or safetensors), or the bare name of a published file, which is
            looked for in torch hub's checkpoint folder; None is random weights. Folders bring their
            own.
        device: "auto" or a device of torch.
        precision: that its encoder computes in.
        batch_memory_gb: for the images that go through the encoder at once; see `Batches`.

    Raises:
        MissingWeightsError: the weights are not here.
        ModelError: unknown name, or a file that cannot be read or is of another architecture.
    """
    target = resolve_device(device)
    return SegmentAnything(
        sam_model(name, checkpoint), target, precision=precision, batch_memory_gb=batch_memory_gb
    )


def sam_model(
    name: str,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
) -> Sam:
    """The segment_anything model with its weights; on "meta" it is only checked.

    Raises:
        MissingWeightsError: see `build_sam`.
        ModelError: see `build_sam`.
    """
    folder = sam_folder(name)
    if folder is None and name not in sam_model_registry:
        raise ModelError(
            f"models.sam.name: found {name!r}, wanted miniature, local-dir:<folder>, "
            f"{', '.join(sam_model_registry)}"
        )
    source = sam_source(name, checkpoint)
    path = source.require() if source.files else None
    with torch.device(device):
        model: Sam = sam_model_registry[name]() if folder is None else _folder_model(folder)
    if path is not None:
        what = source.what if path.name in source.what else f"{source.what} ({path.name})"
        load_all_weights(model, read_weights(path, device), what)
    return model


def _folder_model(folder: Path) -> Sam:
    path = folder / SAM_CONFIG
    try:
        return build_sam_from_config(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        line = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: describes no SAM ({line})") from None
