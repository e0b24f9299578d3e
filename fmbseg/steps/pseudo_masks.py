"""Step `pseudo_masks`: stage 1 of the paper, one shard of images at a time."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fmbseg.steps.foundation_models import models_of, models_params
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError, UnitKey, file_sha, read_json, unit_is_valid
from fmbseg.vocabulary import encode, read_classes

_SALVAGED = "salvaged"
_IMAGE_BYTES = 100_000
"""About how much disk the masks of one photograph take, counted twice (resume state, output)."""


class TooManyQuarantinedError(ValueError):
    """More images are unreadable than `data.max_quarantined_fraction` allows."""


def keys(workspace: Workspace) -> Callable[[str], UnitKey]:
    """Name of a shard to its content key; what the keys share is read once."""
    images, members = workspace.listing().images, shards(workspace)
    section = {
        **workspace.params.pseudo_masks.model_dump(),
        "max_megapixels": workspace.params.data.max_megapixels,
    }
    shared = workspace.key(
        "pseudo_masks",
        {"classes": file_sha(workspace.classes_path())},
        {**section, **models_params(workspace, "clip", "sam")},
    )

    def key_of(shard: str) -> UnitKey:
        own = {name: images[name] for name in members[shard]}
        return dataclasses.replace(shared, inputs={**own, **shared.inputs})

    return key_of


def key(workspace: Workspace, shard: str) -> UnitKey:
    """Content key of one shard."""
    return keys(workspace)(shard)


def run(workspace: Workspace, shard: str) -> bool:
    """Make `data/pseudo_masks/<shard>/`; True when there was something to do.

    A cut run keeps every finished image, and an image that was in another shard before keeps its
    masks (see `salvage`). Images that cannot be read are quarantined with a reason in the shard's
    `quarantine.json`.
    """
    shard_key = key(workspace, shard)
    settings = _settings(shard_key)
    scratch = _records(workspace, settings) / shard
    salvaged = _records(workspace, settings) / _SALVAGED

    def compute(out: Path) -> dict[str, int]:
        from fmbseg.pseudo.shard import compute_shard
        from fmbseg.pseudo.teacher import ClipSamTeacher

        models, vocabulary = models_of(workspace), read_classes(workspace.classes_path())
        teacher = ClipSamTeacher(
            models.clip, models.sam, encode(models.clip, vocabulary), vocabulary.names,
            workspace.params.pseudo_masks,
        )  # fmt: skip
        return compute_shard(
            shards(workspace)[shard],
            workspace.read_image,
            teacher,
            out,
            scratch,
            salvaged,
            key=settings,
            label=f"pseudo_masks {shard}",
        )

    return run_unit(
        workspace, "pseudo_masks", workspace.pseudo_masks / shard, shard_key, compute, keep=scratch,
        needs_bytes=_IMAGE_BYTES * len(shards(workspace)[shard]),
    )  # fmt: skip


def salvage(workspace: Workspace) -> int:
    """Save the finished images of shards that will be replaced; returns how many.

    When images come or go, chunks of the sorted names move. What is saved here is found again by
    name and pixels, under the same parameters, models and code only.
    """
    saved, members = 0, shards(workspace)
    key_of = keys(workspace)
    wanted = _settings(key_of(next(iter(members)))) if members else None
    for old in _shard_folders(workspace):
        if old.name in members and unit_is_valid(old, key_of(old.name)):
            continue
        try:
            old_key = UnitKey(**read_json(old / MANIFEST)["parts"])
            settings, intact = _settings(old_key), unit_is_valid(old, old_key)
            if intact and settings == wanted:
                from fmbseg.pseudo.shard import save_records

                saved += save_records(old, _records(workspace, settings) / _SALVAGED)
        except (StoreError, KeyError, TypeError):  # damaged, or a second run just replaced it
            continue
    return saved


def _settings(unit_key: UnitKey) -> str:
    """Digest of all that a shard's key holds besides its images."""
    classes = {"classes": unit_key.inputs["classes"]}
    return dataclasses.replace(unit_key, inputs=classes).digest[:16]


def _records(workspace: Workspace, settings: str) -> Path:
    return workspace.root / ".scratch" / "pseudo_masks" / settings


def _shard_folders(workspace: Workspace) -> list[Path]:
    return sorted(path for path in workspace.pseudo_masks.glob("[!.]*") if path.is_dir())


def finish(workspace: Workspace) -> None:
    """Drop shards that no image belongs to any more, and hold the share of bad images to its limit.

    Raises:
        TooManyQuarantinedError: with the counts, the limit and the first reason.
    """
    wanted = shards(workspace)
    for old in _shard_folders(workspace):
        if old.name not in wanted:
            with contextlib.suppress(FileNotFoundError):  # a second run drops it as well
                shutil.rmtree(old)
    shutil.rmtree(workspace.root / ".scratch" / "pseudo_masks", ignore_errors=True)
    bad = quarantined(workspace)
    total = sum(len(names) for names in wanted.values()) + len(workspace.listing().refused)
    limit = workspace.params.data.max_quarantined_fraction
    if len(bad) > limit * total or len(bad) == total:
        raise TooManyQuarantinedError(
            f"{len(bad)} of {total} images cannot be used (limit data.max_quarantined_fraction: "
            f"{limit}); first: {bad[0]['image']}: {bad[0]['reason']}"
        )


def _outcome(workspace: Workspace, shard: str, line: Mapping[str, Any]) -> str:
    return f"{line.get('computed', 0)} images computed, {line.get('reused', 0)} reused"


STEP = Step(
    name="pseudo_masks",
    reads=("download",),
    writes="data/pseudo_masks",
    units=lambda workspace: list(shards(workspace)),
    key=key,
    keys=keys,
    run=run,
    before=salvage,
    after=finish,
    mapped=True,
    outcome=_outcome,
)
