"""What a person sees of an image: its masks, those that were dropped, and what was put right."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmbseg.corrections.store import CorrectedRegion, Correction, read_correction
from fmbseg.export.labelled import Region
from fmbseg.export.regions import regions_of_masks
from fmbseg.steps.kept_masks import masks_file
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, decode_rle, image_sha, read_coco
from fmbseg.types import PseudoMask

_TRIES, _WAIT_S = 5, 0.05
_SHARDS_HELD = 4


@dataclass(frozen=True)
class Labelled:
    """An image with what stage 1 says of it.

    Attributes:
        image: its name in the listing.
        image_sha: SHA-256 of its content.
        image_hw: its height and width, px, turned upright.
        class_names: those that its masks were made with.
        kept: its masks that are trained on; all of them, before the step `subsample` has run.
        every: all its masks.
    """

    image: str
    image_sha: str
    image_hw: tuple[int, int]
    class_names: tuple[str, ...]
    kept: list[PseudoMask]
    every: list[PseudoMask]


@dataclass(frozen=True)
class Shown:
    """What the page shows of an image.

    Attributes:
        image_hw: its height and width, px, turned upright.
        regions: as they are now, the most important first: where they overlap the first one wins.
        candidates: masks of stage 1 that are none of the regions, because they were not kept or
            lie below others; with the class that stage 1 gave them.
        correction: what a person left standing; None where nobody has touched the image.
        changed: the correction is of another picture of this name, so that `regions` are those of
            stage 1 again.
    """

    image_hw: tuple[int, int]
    regions: tuple[CorrectedRegion, ...]
    candidates: tuple[CorrectedRegion, ...]
    correction: Correction | None
    changed: bool


def labelled(workspace: Workspace, image: str) -> Labelled:
    """Read what stage 1 says of an image; a run may be writing the workspace.

    Raises:
        StoreError: no such image in the listing, stage 1 has not come to it, or the picture is no
            longer the one that stage 1 labelled.
    """
    sha = workspace.listing().images.get(image)
    if sha is None:
        raise StoreError(f"{image}: found no such image in this workspace")
    if image_sha(workspace.image_path(image)) != sha:
        raise StoreError(
            f"{image}: found another picture than the one that was labelled; run again "
            "(`fmbseg run`, `make run`), then review it"
        )
    shard = next(name for name, images in shards(workspace).items() if image in images)
    stage1, chosen = workspace.pseudo_masks / shard, masks_file(workspace, shard)
    for _ in range(_TRIES):  # a run may put another folder in place while it is read
        states = _state(stage1 / "manifest.json"), _state(chosen)
        found = _read(stage1, chosen, states)
        if found is not None and states == (_state(stage1 / "manifest.json"), _state(chosen)):
            if image not in found.sizes:
                raise StoreError(f"{image}: stage 1 could not read it (see quarantine.json)")
            kept, every = found.kept.get(image, []), found.every.get(image, [])
            return Labelled(image, sha, found.sizes[image], found.class_names, kept, every)
        time.sleep(_WAIT_S)
    raise StoreError(f"{image}: stage 1 has not labelled it yet; it comes with the run")


def shown(workspace: Workspace, image: str) -> Shown:
    """What there is of an image.

    Raises:
        StoreError: see `labelled`.
    """
    found = labelled(workspace, image)
    correction = read_correction(workspace.corrections, image)
    changed = correction is not None and correction.image_sha != found.image_sha
    kept = set(map(_identity, found.kept))
    known = set(map(_identity, found.every))
    # Those that are kept of an earlier run of stage 1 may be none of its masks any more.
    every = found.every + [one for one in found.kept if _identity(one) not in known]
    names = {one.class_index: one.class_name for one in every}
    scored = regions_of_masks(every, every)
    offered = [_named(one, names) for one in scored]
    if correction is not None and not changed:
        regions = correction.regions
    else:
        own = [one for one in scored if (one.origin, one.class_index, one.rle["counts"]) in kept]
        regions = tuple(_named(one, names) for one in _seen(own, found.image_hw))
        if correction is not None and correction.image_hw == found.image_hw:
            offered = [*correction.regions, *offered]
    here = {str(one.rle["counts"]) for one in regions}
    candidates = tuple(one for one in offered if str(one.rle["counts"]) not in here)
    return Shown(found.image_hw, regions, candidates, correction, changed)


def _identity(mask: PseudoMask) -> tuple[object, ...]:
    return mask.stage, mask.class_index, mask.mask.rle["counts"]


def _named(region: Region, names: dict[int, str]) -> CorrectedRegion:
    return CorrectedRegion(names[region.class_index], region.rle, region.origin, region.score)


def _seen(regions: Sequence[Region], size_hw: tuple[int, int]) -> list[Region]:
    """Those of which a pixel is seen, where the first one lies on top."""
    seen, free = [], np.ones(size_hw, bool, order="F")  # as masks are decoded
    for region in regions:
        inside = decode_rle(region.rle)
        if (inside & free).any():
            seen.append(region)
            free &= ~inside
    return seen


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class _Shard:
    """Image sizes, class names, kept masks and all masks of a shard."""

    sizes: dict[str, tuple[int, int]]
    class_names: tuple[str, ...]
    kept: dict[str, list[PseudoMask]]
    every: dict[str, list[PseudoMask]]


def _read(stage1: Path, chosen: Path, states: tuple[object, object]) -> _Shard | None:
    """What a shard's files hold; None where one of them is missing just now."""
    try:
        return None if states[0] is None else _shard(stage1, chosen if states[1] else None, states)
    except (StoreError, OSError):
        return None


@functools.lru_cache(maxsize=_SHARDS_HELD)
def _shard(stage1: Path, chosen: Path | None, states: tuple[object, ...]) -> _Shard:
    """What a shard's files hold in these states."""
    first, second = (read_coco(stage1 / name) for name in ("stage11.json", "stage12.json"))
    every = first.by_image()
    for image, masks in second.by_image().items():
        every[image] = [*every.get(image, []), *masks]
    kept = every if chosen is None else read_coco(chosen).by_image()
    return _Shard(first.image_sizes_hw, first.class_names, kept, every)
