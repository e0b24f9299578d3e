"""Named trios of foundation models, and the user's overrides of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from fmbseg.models.families import (
    ClipSpec,
    Family,
    SamSpec,
    Spec,
    VisionSpec,
    family_of,
)
from fmbseg.models.sam_weights import PUBLISHED
from fmbseg.models.weights import ModelError
from fmbseg.types import Role

Overrides = Mapping[str, Mapping[str, Any] | None]
"""Per model ("clip", "sam", "vision") the keys that differ from the profile."""
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Profile:
    """A named trio of foundation models."""

    clip: ClipSpec
    sam: SamSpec
    vision: VisionSpec

    def part(self, role: Role) -> tuple[Family, Spec]:
        """One of the three and the family it belongs to."""
        spec: Spec = getattr(self, role)
        return family_of(role, spec.name), spec


PROFILES: dict[str, Profile] = {
    "miniature": Profile(ClipSpec("miniature"), SamSpec("miniature"), VisionSpec("miniature")),
    "base": Profile(
        ClipSpec("ViT-B-16-quickgelu", "openai"),
        SamSpec("vit_b", PUBLISHED["vit_b"].file),
        VisionSpec("vit_base_patch14_dinov2.lvd142m"),
    ),
    "paper": Profile(
        ClipSpec("ViT-L-14-quickgelu", "openai"),
        SamSpec("vit_h", PUBLISHED["vit_h"].file),
        VisionSpec("vit_large_patch14_dinov2.lvd142m"),
    ),
}


def resolve_profile(profile: str, overrides: Overrides) -> Profile:
    """Apply overrides key by key; a key that is left out stays the profile's.

    A SAM named without a checkpoint takes the published one of its name; a model named as a folder
    or of a hub brings its own weights. A name that ends in -quickgelu says how its weights were
    trained.

    Raises:
        ModelError: unknown profile, model or key, weights for a model that brings its own, or a
            model that would have random weights.
    """
    if profile not in PROFILES:
        raise ModelError(f"models.profile: found {profile!r}, wanted {', '.join(PROFILES)}")
    unknown = set(overrides) - set(ROLES)
    if unknown:
        raise ModelError(f"models: found {sorted(unknown)}, wanted {', '.join(ROLES)}")
    resolved = PROFILES[profile]
    for role in ROLES:
        keys = dict(overrides.get(role) or {})
        known = [field.name for field in fields(getattr(resolved, role))]
        for key in keys:
            if key not in known:
                raise ModelError(f"models.{role}.{key}: unknown key, wanted {' or '.join(known)}")
        if "name" in keys:
            keys = {**family_of(role, str(keys["name"])).defaults(str(keys["name"])), **keys}
        spec = replace(getattr(resolved, role), **keys)
        family_of(role, spec.name).require_weights(spec)
        resolved = replace(resolved, **{role: spec})
    return resolved
