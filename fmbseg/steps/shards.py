"""How the training images are cut into shards, and which of them could not be used."""

import functools
from pathlib import Path

from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import read_json, sha_of

_MAX_STEM = 100


def shards(workspace: Workspace) -> dict[str, list[str]]:
    """Shard name to image names: chunks of the sorted names of every sub-folder.

    A new image in one sub-folder leaves the shards of the others, and the full ones before it
    in its own, as they are.
    """
    return _cut(workspace.listing(), workspace.params.data.shard_images)


@functools.lru_cache(maxsize=8)
def _cut(listing: Listing, size: int) -> dict[str, list[str]]:
    """The same of a listing; cut once, since every unit of a run asks."""
    folders: dict[str, list[str]] = {}
    for name in sorted(listing.images):
        folders.setdefault(str(Path(name).parent), []).append(name)
    found: dict[str, list[str]] = {}
    for folder, names in sorted(folders.items()):
        for start in range(0, len(names), size):
            found[f"{_stem(folder)}-{start // size:04d}"] = names[start : start + size]
    return found


def _stem(folder: str) -> str:
    """A file name for a sub-folder's shards: no other sub-folder has it, and it is not too long."""
    if folder == ".":
        return "images"
    stem = folder.replace("/", "__")
    if stem == "images" or stem.replace("__", "/") != folder or len(stem.encode()) > _MAX_STEM:
        short = stem.encode()[:_MAX_STEM].decode(errors="ignore")
        return f"{short}-{sha_of(folder)[:8]}"
    return stem


def quarantined(workspace: Workspace) -> list[dict[str, str]]:
    """`[{"image", "reason"}]`: what the listing refused, then over all shards by name."""
    found = list(workspace.listing().refused)
    for shard in shards(workspace):
        found += read_json(workspace.pseudo_masks / shard / "quarantine.json")
    return found
