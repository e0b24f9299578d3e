"""Step `review`: the images in the order in which a person should look at them.

The most doubtful image goes first, but not twenty near-copies in a row: an image's turn comes by
its doubt divided by its place in its look, so that the second most doubtful image of a look counts
half, the third a third. A look are images that CLIP sees as near one another
(`fmbseg.pseudo.looks`). Doubt is that of the pseudo masks of both stages; what a trained model
answers plays no part, so that images can be looked at before anything is trained.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from fmbseg.errors import UserError
from fmbseg.export.labelled import NONE
from fmbseg.export.regions import doubt_of, paint, regions_of_masks
from fmbseg.progress import tracked
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import shards
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, UnitKey, file_sha, read_coco, read_json, write_json
from fmbseg.vocabulary import read_classes

QUEUE = "queue.json"
_FILES = ("stage11.json", "stage12.json", "looks.npy")
_SAMPLE = 4000
"""Looks are made of about so many images, spread evenly; then every image is sorted into one."""
_CLASSES = 3
"""So many classes are named whose pixels lack the most confidence."""


@dataclass(frozen=True)
class QueueEntry:
    """An image in the queue.

    Attributes:
        image: its name in the listing.
        doubt: the area-weighted lack of confidence of its pseudo masks, 0 to 1 (docs/label.md).
        look: number of its look; images of one look resemble one another.
        classes: those whose pixels lack the most confidence, the most of it first; at most three.
        unlabelled: share of its pixels that no pseudo mask covers, 0 to 1.
    """

    image: str
    doubt: float
    look: int
    classes: tuple[str, ...] = ()
    unlabelled: float = 0.0


def queue_of(workspace: Workspace) -> tuple[QueueEntry, ...]:
    """All images that stage 1 could read, the one to look at first as the first.

    Raises:
        UserError: the step has not run in this workspace.
        StoreError: its file is damaged.
    """
    file = workspace.review / QUEUE
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; wanted the queue of images to look at. `fmbseg label`, "
            "`fmbseg run` or `python -m fmbseg.steps review` in the workspace makes it"
        )
    try:
        return tuple(map(_entry, read_json(file)["images"]))
    except (KeyError, TypeError) as error:
        problem = f"not a queue of images ({error}); remove it and run its step"
        raise StoreError(f"{file}: {problem}") from None


def in_turn(entries: Iterable[QueueEntry]) -> list[QueueEntry]:
    """The entries by doubt over their place in their look; ties go by name."""
    places, turns = Counter[int](), []
    for entry in sorted(entries, key=lambda one: (-one.doubt, one.image)):
        places[entry.look] += 1
        turns.append((-entry.doubt / places[entry.look], entry.image, entry))
    return [entry for _, _, entry in sorted(turns, key=lambda turn: turn[:2])]


def key(workspace: Workspace, unit: str = "") -> UnitKey:
    """Content key over all shards."""
    files = {
        f"{shard}/{name}": file_sha(workspace.pseudo_masks / shard / name)
        for shard in shards(workspace)
        for name in _FILES
    }
    return workspace.key("review", files, {})


def run(workspace: Workspace, unit: str = "") -> bool:
    """Make `reports/review/queue.json`; True when there was something to do.

    It holds {"images": [fields of `QueueEntry`, ...]}. A cut run keeps every finished shard. Of
    the masks one shard is in memory at a time, of the features the sample that makes the looks.
    """
    unit_key = key(workspace)
    scratch = workspace.scratch("review", unit_key)

    def compute(out: Path) -> None:
        from fmbseg.pseudo.looks import Looks

        every = -(-workspace.size() // _SAMPLE) or 1
        names = list(shards(workspace))
        sample = [rows[::every] for shard in names if (rows := _features(workspace, shard)).size]
        looks = Looks.among(np.concatenate(sample))  # an image is usable, or stage 1 had failed
        entries: list[QueueEntry] = []
        for shard in tracked(names, "review", unit="shard"):
            if (rows := _features(workspace, shard)).size:
                found = _doubts(workspace, shard, scratch / f"{shard}.json")
                entries += map(_entry, found, looks.of(rows).tolist())
        write_json(out / QUEUE, {"images": [asdict(entry) for entry in in_turn(entries)]})

    return run_unit(workspace, "review", workspace.review, unit_key, compute, keep=scratch)


def _features(workspace: Workspace, shard: str) -> Float32[np.ndarray, "image dim"]:
    """What CLIP saw of a shard's images, in the order of their names."""
    rows: Float32[np.ndarray, "image dim"] = np.load(workspace.pseudo_masks / shard / "looks.npy")
    return rows.astype(np.float32)


def _doubts(workspace: Workspace, shard: str, kept: Path) -> list[dict[str, Any]]:
    """What a shard's masks say of its images, in the order of their names; kept for a cut run."""
    if kept.is_file():
        found: list[dict[str, Any]] = read_json(kept)
        return found
    names = read_classes(workspace.classes_path()).names
    folder = workspace.pseudo_masks / shard
    first, second = (read_coco(folder / file) for file in _FILES[:2])
    masks = first.by_image(), second.by_image()
    found = []
    for image, image_hw in first.image_sizes_hw.items():
        every = [mask for stage in masks for mask in stage.get(image, [])]
        labels, confidence = paint(regions_of_masks(every, every), image_hw)
        lacks = np.bincount(labels.ravel() + 1, 1 - confidence.ravel(), len(names) + 1)[1:]
        worst = [int(index) for index in np.argsort(-lacks, kind="stable")[:_CLASSES]]
        found.append({
            "image": image, "doubt": round(doubt_of(confidence), 6),
            "classes": [names[index] for index in worst if lacks[index] > 0],
            "unlabelled": round(float((labels == NONE).mean()), 6),
        })  # fmt: skip
    write_json(kept, found)
    return found


def _entry(found: Mapping[str, Any], look: int = 0) -> QueueEntry:
    return QueueEntry(**{"look": look, **found, "classes": tuple(found["classes"])})


STEP = Step(
    name="review",
    reads=("download", "pseudo_masks"),
    writes="reports/review",
    key=key,
    run=run,
    file=QUEUE,
)
