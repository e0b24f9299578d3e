"""The published weights of a profile's three models, fetched before they are needed."""

from dataclasses import astuple
from pathlib import Path

from fmbseg.datasets.entry import Remote
from fmbseg.fetch.checksums import set_aside
from fmbseg.fetch.http import fetch
from fmbseg.models.families import Family, Spec
from fmbseg.models.profiles import Overrides, resolve_profile
from fmbseg.models.status import WeightsStatus, weights_status
from fmbseg.models.weights import Source, fetch_hub_file, offline_flags
from fmbseg.types import Role

_ORDER: tuple[Role, ...] = ("sam", "clip", "vision")


def fetch_weights(profile: str, overrides: Overrides | None = None) -> list[WeightsStatus]:
    """Fetch what a profile's models lack; no run ever does.

    Files of a Hugging Face repository come through the hub's own client into its own cache, any
    other goes to where the model's own package looks for it, such as torch hub's checkpoint folder.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.

    Returns:
        Where the weights lie and whether they will load, checksums compared, one line a model.

    Raises:
        DownloadError: SAM's file cannot be had.
        MissingWeightsError: CLIP's or the vision encoder's weights cannot be had.
        ModelError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides or {})
    for role in _ORDER:
        _fetch(*models.part(role))
    return weights_status(profile, overrides or {}, checksums=True)


def _fetch(family: Family, spec: Spec) -> None:
    """One model's files; what is the user's own, or shipped, is left to the status."""
    if spec.name.startswith("local-dir:"):
        return
    source = family.source(*astuple(spec))
    described = None
    if spec.name.startswith("hf-hub:") and source.hub is not None:
        described = fetch_hub_file(source.what, source.hub, (family.config,)).parent
    for repo, file in family.beside(spec.name, described):
        fetch_hub_file(source.what, repo, (file,))
    present = source.find()
    if not source.address or (present is not None and not _set_aside_if_wrong(source, present)):
        return
    if source.hub is not None:
        fetch_hub_file(source.what, source.hub, source.hub_files)
        return
    sha256 = source.sha256 if len(source.sha256) == 64 else None
    remote = Remote(
        (source.address,), source.about_bytes or None, md5=source.md5 or None, sha256=sha256
    )
    fetch(remote, source.files[-1])


def _set_aside_if_wrong(source: Source, path: Path) -> bool:
    """Make room for a published file where one of other bytes lies; False: it may stay.

    A file of the Hugging Face cache is removed, since the hub's client would link it again; any
    other is kept as `<name>.bad`.
    """
    if offline_flags() or source.checksum_problem(path) is None:
        return False
    if path.is_symlink():
        path.resolve().unlink()
        path.unlink()
    else:
        set_aside(path, path)
    return True
