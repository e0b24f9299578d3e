"""The frozen models, each built once per process and set of parameters."""

import functools
import json
import threading

from fmbseg.models.build import build_profile_clip, build_profile_sam, build_profile_vision
from fmbseg.models.images import ShortSide
from fmbseg.models.protocols import ClipModel, SamModel, VisionModel

BUILDING = threading.Lock()
"""Tasks run in threads; two that want a model at once must not build it twice."""


@functools.lru_cache(maxsize=4)
def build_clip(
    profile: str,
    overrides: str,
    projection: str,
    template: str,
    short_side_px: ShortSide,
    stride_fraction: float,
    batch_crops: int,
    device: str,
) -> ClipModel:
    """CLIP of a profile; `overrides` is JSON, so that equal ones are found again."""
    return build_profile_clip(
        profile,
        json.loads(overrides),
        projection=projection,
        template=template,
        short_side_px=short_side_px,
        stride_fraction=stride_fraction,
        batch_crops=batch_crops,
        device=device,
    )


@functools.lru_cache(maxsize=2)
def build_sam(profile: str, overrides: str, device: str) -> SamModel:
    """SAM of a profile."""
    return build_profile_sam(profile, json.loads(overrides), device=device)


@functools.lru_cache(maxsize=2)
def build_vision(
    profile: str, overrides: str, short_side_px: ShortSide, device: str
) -> VisionModel:
    """The vision encoder of a profile."""
    return build_profile_vision(
        profile, json.loads(overrides), short_side_px=short_side_px, device=device
    )
