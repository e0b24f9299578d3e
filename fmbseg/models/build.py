"""Names to models: `build_clip`, `build_sam`, `build_vision`, and the models of a profile."""

from dataclasses import asdict, dataclass
from typing import Any

from fmbseg.models.clip_build import build_clip
from fmbseg.models.profiles import Overrides, resolve_profile
from fmbseg.models.protocols import ClipModel, SamModel, VisionModel
from fmbseg.models.sam_build import build_sam
from fmbseg.models.vision import build_vision
from fmbseg.models.weights import MissingWeightsError
from fmbseg.types import Role

__all__ = ["FoundationModels", "build_clip", "build_model", "build_sam", "build_vision"]


@dataclass(frozen=True)
class FoundationModels:
    """The three frozen models the method composes."""

    clip: ClipModel
    sam: SamModel
    vision: VisionModel


def build_model(role: Role, profile: str, overrides: Overrides, **options: Any) -> Any:
    """One of a profile's models: a `ClipModel`, `SamModel` or `VisionModel`.

    Args:
        role: "clip", "sam" or "vision".
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.
        options: such as `device`; those of `build_clip`, `build_sam` or `build_vision`.

    Raises:
        MissingWeightsError: the weights are not here; the message names the profile to fetch.
        ModelError: see `resolve_profile` and the three build functions.
    """
    family, spec = resolve_profile(profile, overrides).part(role)
    try:
        return family.code().build(**asdict(spec), **options)
    except MissingWeightsError as error:
        raise error.of_profile(profile) from None
