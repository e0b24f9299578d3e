"""Where the weights of a SAM lie. Light to import: nothing is built here."""

from dataclasses import dataclass
from pathlib import Path

from fmbseg.models.weights import Source, hub_checkpoints, named_folder

SAM_CONFIG = "sam_config.json"
_WEIGHTS = "sam.safetensors"
_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class PublishedFile:
    """A published weight file; its name ends in the first digits of its MD5."""

    file: str
    md5: str
    about_bytes: int


PUBLISHED: dict[str, PublishedFile] = {
    "vit_b": PublishedFile("sam_vit_b_01ec64.pth", "01ec64d29a2fca3f0661936605ae66f8", 375_000_000),
    "vit_l": PublishedFile(
        "sam_vit_l_0b3195.pth", "0b3195507c641ddb6910d2bb5adee89c", 1_250_000_000
    ),
    "vit_h": PublishedFile(
        "sam_vit_h_4b8939.pth", "4b8939a88964f0f4ff5f5b2642c598a6", 2_565_000_000
    ),
}
"""By the registry's names."""


def sam_folder(name: str) -> Path | None:
    """The folder that a name stands for, or None for a name of the registry.

    Raises:
        MissingWeightsError: the folder lacks its config or weights.
    """
    return named_folder(
        name, f"SAM {name}", "sam", f"{SAM_CONFIG} and {_WEIGHTS}",
        lambda folder: all((folder / file).is_file() for file in (SAM_CONFIG, _WEIGHTS)),
    )  # fmt: skip


def sam_source(name: str, checkpoint: str | Path | None) -> Source:
    """Where the weights may lie; no files stand for random weights.

    Raises:
        MissingWeightsError: a folder lacks its files.
    """
    folder = sam_folder(name)
    if folder is not None:
        return Source(f"SAM {name}", (folder / _WEIGHTS,))
    if checkpoint is None:
        return Source(f"SAM {name}")
    what, own = f"SAM {name} ({checkpoint})", Path(checkpoint)
    published = next((one for one in PUBLISHED.values() if one.file == str(checkpoint)), None)
    if published is None:
        return Source(what, (own,), remedy=f"models.sam.checkpoint names no file: {checkpoint}")
    cached = hub_checkpoints() / own
    return Source(
        what, (own, cached), address=f"{_URL}{checkpoint}", md5=published.md5,
        about_bytes=published.about_bytes,
    )  # fmt: skip
