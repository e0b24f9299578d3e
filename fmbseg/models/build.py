"""Names to models: `build_clip`, `build_sam`, `build_vision`, and whole profiles of the three."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fmbseg.models.clip import TEMPLATE
from fmbseg.models.clip_build import build_clip
from fmbseg.models.images import ShortSide
from fmbseg.models.profiles import PROFILES, Overrides, Profile, resolve_profile
from fmbseg.models.protocols import ClipModel, SamModel, VisionModel
from fmbseg.models.sam import build_sam
from fmbseg.models.status import (
    WeightsStatus,
    missing_weights,
    weights_fingerprint,
    weights_status,
)
from fmbseg.models.vision import build_vision
from fmbseg.models.weights import MissingWeightsError, ModelError

__all__ = [
    "PROFILES", "FoundationModels", "MissingWeightsError", "ModelError", "Overrides", "Profile",
    "WeightsStatus", "build_clip", "build_models", "build_profile_clip", "build_profile_sam",
    "build_profile_vision", "build_sam", "build_vision", "missing_weights",
    "resolve_profile", "weights_fingerprint", "weights_status",
]  # fmt: skip


@dataclass(frozen=True)
class FoundationModels:
    """The three frozen models the method composes."""

    clip: ClipModel
    sam: SamModel
    vision: VisionModel


def build_profile_clip(
    profile: str,
    overrides: Overrides,
    *,
    projection: str = "maskclip",
    template: str = TEMPLATE,
    short_side_px: ShortSide = None,
    stride_fraction: float = 0.5,
    batch_crops: int = 32,
    device: str | torch.device = "cpu",
) -> ClipModel:
    """The profile's CLIP; see `build_clip`."""
    spec = resolve_profile(profile, overrides).clip
    with _of_profile(profile):
        return build_clip(
            spec.name,
            spec.pretrained,
            projection,
            device,
            quick_gelu=spec.quick_gelu,
            template=template,
            short_side_px=short_side_px,
            stride_fraction=stride_fraction,
            batch_crops=batch_crops,
        )


def build_profile_sam(
    profile: str, overrides: Overrides, *, device: str | torch.device = "cpu"
) -> SamModel:
    """The profile's SAM; see `build_sam`."""
    spec = resolve_profile(profile, overrides).sam
    with _of_profile(profile):
        return build_sam(spec.name, spec.checkpoint, device)


def build_profile_vision(
    profile: str,
    overrides: Overrides,
    *,
    short_side_px: ShortSide = None,
    device: str | torch.device = "cpu",
) -> VisionModel:
    """The profile's vision encoder; see `build_vision`."""
    spec = resolve_profile(profile, overrides).vision
    with _of_profile(profile):
        return build_vision(spec.name, spec.pretrained, device, short_side_px=short_side_px)


@contextmanager
def _of_profile(profile: str) -> Iterator[None]:
    """Let the message on missing weights name the profile to fetch."""
    try:
        yield
    except MissingWeightsError as error:
        raise error.of_profile(profile) from None


def build_models(
    profile: str,
    overrides: Overrides,
    *,
    projection: str,
    template: str,
    clip_short_side_px: ShortSide,
    clip_stride_fraction: float,
    clip_batch_crops: int,
    vision_short_side_px: ShortSide,
    device: str | torch.device,
) -> FoundationModels:
    """All three models of a profile, frozen, on one device.

    Raises:
        MissingWeightsError: weights are not here.
        ModelError: see `resolve_profile` and the three build functions.
    """
    clip = build_profile_clip(
        profile,
        overrides,
        projection=projection,
        template=template,
        short_side_px=clip_short_side_px,
        stride_fraction=clip_stride_fraction,
        batch_crops=clip_batch_crops,
        device=device,
    )
    sam = build_profile_sam(profile, overrides, device=device)
    vision = build_profile_vision(
        profile, overrides, short_side_px=vision_short_side_px, device=device
    )
    return FoundationModels(clip, sam, vision)
