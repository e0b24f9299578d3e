"""Where a profile's weights are, and which they are; nothing here loads or downloads a model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmbseg.models.clip_weights import clip_folder, locate_clip
from fmbseg.models.profiles import Overrides, resolve_profile
from fmbseg.models.sam import locate_sam, sam_folder
from fmbseg.models.vision import locate_vision, vision_folder
from fmbseg.models.weights import content_sha256


@dataclass(frozen=True)
class WeightsStatus:
    """Whether one model's weights are on this machine.

    Attributes:
        model: "clip", "sam" or "vision".
        name: the model's name and, where there is one, its tag or file.
        present: whether they are here.
        where: their path, or where they would come from and how to place them by hand.
    """

    model: str
    name: str
    present: bool
    where: str


def weights_status(profile: str, overrides: Overrides) -> list[WeightsStatus]:
    """One line a model, for `fmbseg doctor`; downloads nothing.

    Raises:
        ValueError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides)
    clip, sam, vision = models.clip, models.sam, models.vision
    located = {
        "clip": (clip.name, clip.pretrained, locate_clip(clip.name, clip.pretrained)),
        "sam": (sam.name, sam.checkpoint, locate_sam(sam.name, sam.checkpoint)),
        "vision": (vision.name, vision.file, locate_vision(vision.name, vision.pretrained)),
    }
    return [
        WeightsStatus(model, name if weights is None else f"{name} ({weights})", present, where)
        for model, (name, weights, (present, where)) in located.items()
    ]


def missing_weights(profile: str, overrides: Overrides) -> str | None:
    """The one answer to weights that are not on this machine; None when all are.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.

    Raises:
        ValueError: see `resolve_profile`.
    """
    missing = [one.name for one in weights_status(profile, overrides) if not one.present]
    if not missing:
        return None
    return (
        f"weights of {', '.join(missing)} are not on this machine; fetch them once: "
        f"fmbseg download --weights {profile} (fmbseg doctor shows where each belongs)"
    )


def weights_fingerprint(profile: str, overrides: Overrides) -> dict[str, str]:
    """What tells one set of weights from another, for cache keys.

    Returns:
        Per model the name, and "sha256:<content>" of the folder or file the user (or the
        package) gave, else the published tag, whether or not it is downloaded yet.

    Raises:
        MissingWeightsError: a folder lacks its files.
        ValueError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides)
    clip, sam, vision = models.clip, models.sam, models.vision
    return {
        "clip": _fingerprint(clip.name, clip.pretrained, _own_folder(clip.name, clip_folder)),
        "sam": _fingerprint(sam.name, sam.checkpoint, _own_folder(sam.name, sam_folder)),
        "vision": _fingerprint(vision.name, vision.file, _own_folder(vision.name, vision_folder)),
    }


def _own_folder(name: str, folder_of: Callable[[str], Path | None]) -> Path | None:
    """The folder a name stands for; a hub's folder is left alone, it may have to be fetched."""
    return None if name.startswith("hf-hub:") else folder_of(name)


def _fingerprint(name: str, weights: str | None, folder: Path | None) -> str:
    """Content of what lies in the user's hands, the name of what is published."""
    if weights is not None and Path(weights).is_file():
        return f"{name} sha256:{content_sha256(Path(weights))}"
    if folder is not None:
        return f"sha256:{content_sha256(folder)}"
    return name if weights is None else f"{name} {weights}"
