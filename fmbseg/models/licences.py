"""Licences of the weights that a trained model goes with, as far as they say."""

from collections.abc import Mapping

from fmbseg.models.profiles import resolve_profile
from fmbseg.models.settings import ModelsParams

_KNOWN: Mapping[str, str] = {"miniature": "Apache-2.0", "openai": "MIT"}
"""Of weights whose files do not say it, by the name or tag that they are known under."""
_UNKNOWN = "not stated by the weights; see where they came from"


def licences(section: ModelsParams, encoder_says: str | None) -> dict[str, str]:
    """Of our own part and of the weights of the encoders, by what they are.

    Args:
        section: names the models.
        encoder_says: the licence that the vision encoder's own description states.
    """
    overrides = section.model_dump(include={"clip", "vision"}, exclude_none=True)
    profile = resolve_profile(section.profile, overrides)
    clip, encoder = profile.clip, profile.vision
    said = _KNOWN.get(encoder.name) or encoder_says or _UNKNOWN
    tag = _KNOWN.get(clip.name) or _KNOWN.get(str(clip.pretrained), _UNKNOWN)
    return {
        "head": "as its training data allow; the code that trained it: Apache-2.0",
        f"vision encoder {encoder.name}": str(said),
        f"text encoder {clip.name}": tag,
    }


def published_licence(encoder: str) -> str | None:
    """What timm's list says of a vision encoder's weights; None for a name that it lacks."""
    import timm

    if encoder == "miniature" or encoder.startswith(("local-dir:", "hf-hub:")):
        return None
    found = timm.models.get_pretrained_cfg(encoder)
    return None if found is None else found.license
