"""The published weights of a profile's three models, fetched before they are needed."""

from pathlib import Path

from fmbseg.fetch.checksums import set_aside
from fmbseg.fetch.http import fetch
from fmbseg.fetch.remote import Remote
from fmbseg.models.clip_config import CONFIG, read_clip_config
from fmbseg.models.profiles import Overrides, Profile, resolve_profile
from fmbseg.models.sam import PUBLISHED_MD5, published_folder
from fmbseg.models.status import WeightsStatus, sources_of, weights_status
from fmbseg.models.weights import Source, fetch_hub_file, offline_flags

_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_ABOUT_BYTES = {"vit_b": 375_000_000, "vit_l": 1_250_000_000, "vit_h": 2_565_000_000}

SAM_WEIGHTS: dict[str, Remote] = {
    name: Remote((f"{_SAM}/{name}",), _ABOUT_BYTES[name[4:9]], md5=md5)
    for name, md5 in PUBLISHED_MD5.items()
}
"""SAM's published files; their names end in the first digits of their MD5."""
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def fetch_weights(
    profile: str, overrides: Overrides | None = None, *, progress: bool = True
) -> list[WeightsStatus]:
    """Fetch what a profile's models lack; no run ever does.

    SAM's file goes to torch hub's checkpoint folder. CLIP's and the vision encoder's come through
    the Hugging Face hub's own client into its own cache.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.
        progress: show bars.

    Returns:
        Where the weights lie and whether they will load, checksums compared, one line a model.

    Raises:
        DownloadError: SAM's file cannot be had.
        MissingWeightsError: CLIP's or the vision encoder's weights cannot be had.
        ModelError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides or {})
    for role in ("sam", "clip", "vision"):
        _fetch(models, role, progress)
    return weights_status(profile, overrides or {}, checksums=True)


def _fetch(models: Profile, role: str, progress: bool) -> None:
    """One model's files; what is the user's own, or shipped, is left to the status."""
    checkpoint = models.sam.checkpoint
    if role == "sam":
        if checkpoint in SAM_WEIGHTS and not Path(checkpoint).is_file():
            fetch(SAM_WEIGHTS[checkpoint], published_folder() / checkpoint, progress=progress)
        return
    name = (models.clip if role == "clip" else models.vision).name
    if name.startswith("local-dir:"):
        return
    source = sources_of(models, role)()
    if name.startswith("hf-hub:") and source.hub is not None:
        config = CONFIG if role == "clip" else "config.json"
        found = fetch_hub_file(source.what, source.hub, (config,)).parent
        if role == "clip" and read_clip_config(found)[0]["text_cfg"].get("hf_tokenizer_name"):
            for file in _TOKENIZER:
                fetch_hub_file(source.what, source.hub, (file,))
    present = source.find()
    if not source.address or (present is not None and not _set_aside_if_wrong(source, present)):
        return
    if source.hub is not None:
        fetch_hub_file(source.what, source.hub, source.hub_files)
    else:
        sha256 = source.sha256 if len(source.sha256) == 64 else None
        fetch(Remote((source.address,), sha256=sha256), source.files[-1], progress=progress)


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
