"""Whether a profile's weights are here and will load, and which they are; nothing is fetched."""

from dataclasses import astuple, dataclass, fields

from fmbseg.models.families import Family, Spec, weights_of
from fmbseg.models.profiles import ROLES, Overrides, resolve_profile
from fmbseg.models.weights import MissingWeightsError, ModelError, content_sha256

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
    return [_status(*models.part(role), profile, checksums) for role in ROLES]


def missing_weights(profile: str, overrides: Overrides) -> str | None:
    """The one answer to weights that are not on this machine or will not load; None: all will.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.

    Raises:
        ModelError: see `resolve_profile`.
    """
    absent = [one for one in weights_status(profile, overrides) if not one.present]
    wrong = [one for one in absent if not one.missing]
    own = [one for one in absent if not one.where.startswith("https://")]
    if wrong or own:
        return (wrong or own)[0].where
    if not absent:
        return None
    return (
        f"weights of {', '.join(one.name for one in absent)} are not on this machine; fetch "
        f"them once: fmbseg download --weights {profile} (fmbseg doctor shows where each belongs)"
    )


def _status(family: Family, spec: Spec, profile: str, checksums: bool) -> WeightsStatus:
    role, weights, ending = family.role, weights_of(spec), ""
    name = f"{spec.name} ({weights})" if isinstance(weights, str) else spec.name
    try:
        source = family.source(*astuple(spec))
        path = source.find()
        if path is None:
            where = source.address or source.remedy.replace("PROFILE", profile)
            return WeightsStatus(role, name, False, where, tuple(source.searched()), True)
        if source.address:
            ending = f"; delete it and fetch it anew: fmbseg download --weights {profile}"
        family.code().check(*astuple(spec))
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
    return {role: _fingerprint(*models.part(role)) for role in ROLES}


def _fingerprint(family: Family, spec: Spec) -> str:
    name, weights, *_ = astuple(spec)
    hub, given = name.startswith("hf-hub:"), isinstance(weights, str)
    folder = None if hub else family.folder(name)
    path = family.source(*astuple(spec)).find() if folder is None or given else None
    files = [one for one in (folder, path) if one is not None]
    if hub and path is not None:
        files += [one for one in map(path.with_name, _BESIDE) if one.is_file()]
    said = [name] if folder is None else []
    said += [f"sha256:{content_sha256(one)}" for one in files]
    if not files and given and not hub:
        said.append(weights)
    said += [
        f"{field.name} {value}"
        for field, value in zip(fields(spec)[2:], astuple(spec)[2:], strict=True)
        if value is not None
    ]
    return " ".join(said)
