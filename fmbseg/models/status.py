"""Whether a profile's weights are here and will load, and which they are; nothing is fetched."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmbseg.models.clip_build import clip_model
from fmbseg.models.clip_config import build_clip_tokenizer
from fmbseg.models.clip_weights import clip_folder, clip_source
from fmbseg.models.fingerprints import content_sha256
from fmbseg.models.profiles import Overrides, Profile, resolve_profile
from fmbseg.models.sam import sam_folder, sam_model, sam_source
from fmbseg.models.vision import vision_folder, vision_model, vision_source
from fmbseg.models.weights import MissingWeightsError, ModelError, Source

_BESIDE = ("open_clip_config.json", "config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a hub's repository that decide on a model beside its weights."""


@dataclass(frozen=True)
class WeightsStatus:
    """Whether one model's weights are on this machine and will load.

    Attributes:
        model: "clip", "sam" or "vision".
        name: the model's name and, where there is one, its tag or file.
        present: whether they are here and whole, and fit the architecture.
        where: the file that is used; what is wrong with it; or where they would come from.
        searched: every path that was looked at, when they are not here.
        missing: whether there is no file at all, in place of one that will not load.
    """

    model: str
    name: str
    present: bool
    where: str
    searched: tuple[str, ...] = ()
    missing: bool = False


def weights_status(
    profile: str, overrides: Overrides, *, checksums: bool = False
) -> list[WeightsStatus]:
    """One line a model, for `fmbseg doctor`.

    Each file's names and shapes are compared with the architecture, without reading its numbers.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.
        checksums: also compare with the published checksums, which reads whole files.

    Raises:
        ModelError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides)
    clip, sam, vision = models.clip, models.sam, models.vision

    def check_clip() -> None:
        clip_model(clip.name, clip.pretrained, clip.quick_gelu, device="meta")
        folder = clip_folder(clip.name)
        if folder is not None:
            build_clip_tokenizer(clip.name, folder)

    checks: dict[str, tuple[str, str | None, Callable[[], object]]] = {
        "clip": (clip.name, clip.pretrained, check_clip),
        "sam": (sam.name, sam.checkpoint,
                lambda: sam_model(sam.name, sam.checkpoint, device="meta")),
        "vision": (vision.name, vision.file,
                   lambda: vision_model(vision.name, vision.pretrained, device="meta")),
    }  # fmt: skip
    return [
        _status(
            role, name if weights is None else f"{name} ({weights})", sources_of(models, role),
            check, profile, checksums,
        )
        for role, (name, weights, check) in checks.items()
    ]  # fmt: skip


def missing_weights(profile: str, overrides: Overrides) -> str | None:
    """The one answer to weights that are not on this machine or will not load; None: all will.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.

    Raises:
        ModelError: see `resolve_profile`.
    """
    statuses = [one for one in weights_status(profile, overrides) if not one.present]
    wrong = [one for one in statuses if not one.missing]
    if wrong:
        return wrong[0].where
    if not statuses:
        return None
    own = [one for one in statuses if not one.where.startswith("https://")]
    if own:
        return own[0].where
    return (
        f"weights of {', '.join(one.name for one in statuses)} are not on this machine; fetch "
        f"them once: fmbseg download --weights {profile} (fmbseg doctor shows where each belongs)"
    )


def sources_of(models: Profile, role: str) -> Callable[[], Source]:
    """Where one model of a profile may lie; to be called, since a folder may lack its files."""
    clip, sam, vision = models.clip, models.sam, models.vision
    return {
        "clip": lambda: clip_source(clip.name, clip.pretrained, clip.quick_gelu),
        "sam": lambda: sam_source(sam.name, sam.checkpoint),
        "vision": lambda: vision_source(vision.name, vision.pretrained),
    }[role]


def _status(
    role: str,
    name: str,
    source_of: Callable[[], Source],
    check: Callable[[], object],
    profile: str,
    checksums: bool,
) -> WeightsStatus:
    ending = ""
    try:
        source = source_of()
        path = source.find()
        if path is None:
            where = source.address or source.remedy.replace("PROFILE", profile)
            return WeightsStatus(role, name, False, where, tuple(source.searched()), True)
        if source.address:
            ending = f"; delete it and fetch it anew: fmbseg download --weights {profile}"
        check()
        problem = source.checksum_problem(path) if checksums else None
    except MissingWeightsError as error:
        return WeightsStatus(role, name, False, str(error.of_profile(profile)), missing=True)
    except ModelError as error:
        return WeightsStatus(role, name, False, f"{error}{ending}")
    return WeightsStatus(
        role, name, problem is None, f"{problem}{ending}" if problem else str(path)
    )


def weights_fingerprint(profile: str, overrides: Overrides) -> dict[str, str]:
    """What tells one set of weights from another, for cache keys.

    The bytes that are used decide, wherever they lie, so a replaced file outdates what was made
    with the old one. Runs never fetch, so what a run is keyed by is what it loads; only where
    weights are not here (and nothing can be computed) does the published name stand in.

    Returns:
        Per model "sha256:<content>" of its file or folder, with the name of the architecture; or
        the name and tag alone while they are not here.

    Raises:
        MissingWeightsError: a folder lacks its files.
        ModelError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides)
    clip, sam, vision = models.clip, models.sam, models.vision
    found = {
        "clip": _fingerprint(clip.name, clip.pretrained, clip_folder, sources_of(models, "clip")),
        "sam": _fingerprint(sam.name, sam.checkpoint, sam_folder, sources_of(models, "sam")),
        "vision": _fingerprint(
            vision.name, vision.file, vision_folder, sources_of(models, "vision")
        ),
    }
    if clip.quick_gelu is not None:
        found["clip"] += f" quick_gelu {clip.quick_gelu}"
    return found


def _fingerprint(
    name: str,
    weights: str | None,
    folder_of: Callable[[str], Path | None],
    source_of: Callable[[], Source],
) -> str:
    if name.startswith("hf-hub:"):
        path = source_of().find()
        if path is None:
            return name
        beside = (path.with_name(one) for one in (path.name, *_BESIDE))
        return f"{name} " + " ".join(
            f"sha256:{content_sha256(one)}" for one in beside if one.is_file()
        )
    folder = folder_of(name)
    path = source_of().find() if folder is None or weights is not None else None
    if folder is not None:
        inside = f"sha256:{content_sha256(folder)}"
        return inside if path is None else f"{inside} sha256:{content_sha256(path)}"
    if path is not None:
        return f"{name} sha256:{content_sha256(path)}"
    return name if weights is None else f"{name} {weights}"
