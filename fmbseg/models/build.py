"""Names to models: `build_clip`, `build_sam`, `build_vision`, and the models of a profile."""

from dataclasses import asdict, dataclass
from typing import Any

from fmbseg.models.clip_build import build_clip
from fmbseg.models.families import Role
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
    "WeightsStatus", "build_clip", "build_profile_clip", "build_profile_sam",
    "build_profile_vision", "build_sam", "build_vision", "missing_weights",
    "resolve_profile", "weights_fingerprint", "weights_status",
]  # fmt: skip


@dataclass(frozen=True)
class FoundationModels:
    """The three frozen models the method composes."""

    clip: ClipModel
    sam: SamModel
    vision: VisionModel


def build_profile_clip(profile: str, overrides: Overrides, **options: Any) -> ClipModel:
    """The profile's CLIP; the options, such as `device` and `projection`, are `build_clip`'s."""
    model: ClipModel = _build("clip", profile, overrides, options)
    return model


def build_profile_sam(profile: str, overrides: Overrides, **options: Any) -> SamModel:
    """The profile's SAM; the options, such as `device`, are `build_sam`'s."""
    model: SamModel = _build("sam", profile, overrides, options)
    return model


def build_profile_vision(profile: str, overrides: Overrides, **options: Any) -> VisionModel:
    """The profile's vision encoder; the options, such as `device`, are `build_vision`'s."""
    model: VisionModel = _build("vision", profile, overrides, options)
    return model


def _build(role: Role, profile: str, overrides: Overrides, options: dict[str, Any]) -> Any:
    """Build one of the three; a message on missing weights names the profile to fetch.

    Raises:
        MissingWeightsError: the weights are not here.
        ModelError: see `resolve_profile` and the three build functions.
    """
    family, spec = resolve_profile(profile, overrides).part(role)
    try:
        return family.build(**asdict(spec), **options)
    except MissingWeightsError as error:
        raise error.of_profile(profile) from None
