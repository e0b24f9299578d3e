"""Named trios of foundation models, and the user's overrides of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import open_clip

from fmbseg.models.sam import PUBLISHED_CHECKPOINTS
from fmbseg.models.weights import ModelError

Overrides = Mapping[str, Mapping[str, Any] | None]
"""Per model ("clip", "sam", "vision") the keys that differ from the profile."""


@dataclass(frozen=True)
class ClipSpec:
    """Arguments of `build_clip`."""

    name: str
    pretrained: str | None = None
    quick_gelu: bool | None = None


@dataclass(frozen=True)
class SamSpec:
    """Arguments of `build_sam`."""

    name: str
    checkpoint: str | None = None


@dataclass(frozen=True)
class VisionSpec:
    """Arguments of `build_vision`."""

    name: str
    pretrained: bool | str = True

    @property
    def file(self) -> str | None:
        """The weights' file, if the user gave one."""
        return self.pretrained if isinstance(self.pretrained, str) else None


@dataclass(frozen=True)
class Profile:
    """A named trio of foundation models."""

    clip: ClipSpec
    sam: SamSpec
    vision: VisionSpec


PROFILES: dict[str, Profile] = {
    "miniature": Profile(ClipSpec("miniature"), SamSpec("miniature"), VisionSpec("miniature")),
    "base": Profile(
        ClipSpec("ViT-B-16-quickgelu", "openai"),
        SamSpec("vit_b", PUBLISHED_CHECKPOINTS["vit_b"]),
        VisionSpec("vit_base_patch14_dinov2.lvd142m"),
    ),
    "paper": Profile(
        ClipSpec("ViT-L-14-quickgelu", "openai"),
        SamSpec("vit_h", PUBLISHED_CHECKPOINTS["vit_h"]),
        VisionSpec("vit_large_patch14_dinov2.lvd142m"),
    ),
}


Spec = TypeVar("Spec", ClipSpec, SamSpec, VisionSpec)


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
    unknown = set(overrides) - {"clip", "sam", "vision"}
    if unknown:
        raise ModelError(f"models: found {sorted(unknown)}, wanted clip, sam, vision")
    base = PROFILES[profile]
    clip_keys, sam_keys = (dict(overrides.get(model) or {}) for model in ("clip", "sam"))
    if "name" in clip_keys:
        if _brings_its_own(str(clip_keys["name"])):
            clip_keys.setdefault("pretrained", None)
        elif str(clip_keys["name"]).endswith("-quickgelu"):
            clip_keys.setdefault("quick_gelu", True)
    if "name" in sam_keys:
        sam_keys.setdefault("checkpoint", PUBLISHED_CHECKPOINTS.get(sam_keys["name"]))
    clip = _override("clip", base.clip, clip_keys)
    sam = _override("sam", base.sam, sam_keys)
    given = {"clip.pretrained": (clip.name, clip.pretrained),
             "sam.checkpoint": (sam.name, sam.checkpoint)}  # fmt: skip
    for key, (name, weights) in given.items():
        if weights is not None and _brings_its_own(name):
            raise ModelError(
                f"models.{key}: {name} brings its own weights; name another model beside it, such "
                f"as {PROFILES['base'].clip.name if 'clip' in key else 'vit_b'}"
            )
    vision = _override("vision", base.vision, overrides.get("vision"))
    if clip.pretrained is None and clip.name in open_clip.list_models():
        raise ModelError(
            f"models.clip.pretrained: {clip.name} without it has random weights; wanted a tag "
            "such as openai, or a file"
        )
    if sam.checkpoint is None and sam.name != "miniature" and ":" not in sam.name:
        raise ModelError(f"models.sam.checkpoint: {sam.name} without it has random weights")
    if vision.pretrained is False:
        raise ModelError("models.vision.pretrained: found false, which means random weights")
    return Profile(clip, sam, vision)


def _brings_its_own(name: str) -> bool:
    return name == "miniature" or name.startswith(("local-dir:", "hf-hub:"))


def _override(model: str, spec: Spec, keys: Mapping[str, Any] | None) -> Spec:
    """Replace the given keys of a spec."""
    known = [field.name for field in fields(spec)]
    for key in keys or {}:
        if key not in known:
            raise ModelError(f"models.{model}.{key}: unknown key, wanted {' or '.join(known)}")
    return replace(spec, **(keys or {}))
