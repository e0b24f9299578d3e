"""The published weights of a profile's three models, fetched before they are needed."""

from pathlib import Path

from fmbseg.fetch.http import fetch
from fmbseg.fetch.remote import Remote
from fmbseg.models.clip_weights import clip_folder, find_clip_checkpoint
from fmbseg.models.profiles import Overrides, resolve_profile
from fmbseg.models.sam import published_folder
from fmbseg.models.status import WeightsStatus, weights_status
from fmbseg.models.vision import find_vision_weights, vision_folder

_SAM = "https://dl.fbaipublicfiles.com/segment_anything"

SAM_WEIGHTS: dict[str, Remote] = {
    "sam_vit_b_01ec64.pth": Remote(
        (f"{_SAM}/sam_vit_b_01ec64.pth",), 375_000_000, md5="01ec64d29a2fca3f0661936605ae66f8"
    ),
    "sam_vit_l_0b3195.pth": Remote(
        (f"{_SAM}/sam_vit_l_0b3195.pth",), 1_250_000_000, md5="0b3195507c641ddb6910d2bb5adee89c"
    ),
    "sam_vit_h_4b8939.pth": Remote(
        (f"{_SAM}/sam_vit_h_4b8939.pth",), 2_565_000_000, md5="4b8939a88964f0f4ff5f5b2642c598a6"
    ),
}
"""SAM's published files; their names end in the first digits of their MD5."""


def fetch_weights(
    profile: str, overrides: Overrides | None = None, *, progress: bool = True
) -> list[WeightsStatus]:
    """Fetch what a profile's models lack.

    SAM's file goes to torch hub's checkpoint folder. CLIP's and the vision encoder's come through
    the Hugging Face hub's own client into its own cache, where open_clip and timm look for them.

    Args:
        profile: "miniature", "base" or "paper".
        overrides: as in `resolve_profile`.
        progress: show bars.

    Returns:
        Where the weights lie, one line a model.

    Raises:
        DownloadError: SAM's file cannot be had.
        MissingWeightsError: CLIP's or the vision encoder's weights cannot be had.
        ValueError: see `resolve_profile`.
    """
    models = resolve_profile(profile, overrides or {})
    checkpoint = models.sam.checkpoint
    if checkpoint in SAM_WEIGHTS and not Path(checkpoint).is_file():
        fetch(SAM_WEIGHTS[checkpoint], published_folder() / checkpoint, progress=progress)
    if clip_folder(models.clip.name) is None:
        find_clip_checkpoint(models.clip.name, models.clip.pretrained)
    if models.vision.pretrained is True:
        find_vision_weights(models.vision.name, vision_folder(models.vision.name))
    return weights_status(profile, overrides or {})
