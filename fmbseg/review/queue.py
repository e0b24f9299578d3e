"""Which images there are to review, in which order, and how far each of them is."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ijson

from fmbseg.corrections.store import corrected_images, correction_file
from fmbseg.errors import UserError
from fmbseg.steps.review import QueueEntry, queue_of
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, read_json

State = Literal["draft", "accepted", "changed"]
"""Of an image that a person has touched; `changed`: it is another picture by now."""
_FIRST = ("image_sha", "accepted")
"""What is read of a correction; it stands before the masks."""


@dataclass(frozen=True)
class Queue:
    """The images to review.

    Attributes:
        doubts: name to doubt, 0 to 1, in the order of the step `review`; then those that it has
            not seen yet, with None.
        states: name to state, of those that a person has touched.
        waiting: number of images that stage 1 has not come to.
    """

    doubts: dict[str, float | None]
    states: dict[str, State]
    waiting: int


def queue(workspace: Workspace) -> Queue:
    """What there is to review now.

    Raises:
        StoreError: the workspace has no listing of its images yet.
    """
    made, waiting = _labelled(workspace)
    doubts = {one.image: one.doubt for one in _ranked(workspace) if one.image in made}
    others = {name: None for name in made if name not in doubts}
    return Queue(doubts | others, states(workspace), waiting)


def _ranked(workspace: Workspace) -> tuple[QueueEntry, ...]:
    """The order of the step `review`; none before it has run."""
    try:
        return queue_of(workspace)
    except UserError:
        return ()


def _labelled(workspace: Workspace) -> tuple[dict[str, None], int]:
    """Images that stage 1 has labelled, by shard, and the number of those it has not come to."""
    made, waiting = dict[str, None](), 0
    for shard, names in shards(workspace).items():
        try:
            unread = read_json(workspace.pseudo_masks / shard / "quarantine.json")
        except StoreError:
            waiting += len(names)
            continue
        bad = {one["image"] for one in unread}
        made.update((name, None) for name in names if name not in bad)
    return made, waiting


def states(workspace: Workspace) -> dict[str, State]:
    """State of every image of the listing that a person has touched.

    Raises:
        StoreError: the workspace has no listing of its images yet.
    """
    listed = workspace.listing().images
    found: dict[str, State] = {}
    for image in corrected_images(workspace.corrections):
        path = correction_file(workspace.corrections, image)
        try:
            status = path.stat()
            head = _head(path, status.st_ino, status.st_size, status.st_mtime_ns)
        except (OSError, ijson.JSONError):
            continue  # gone meanwhile, or damaged, which is said when it is opened
        if image in listed and len(head) == len(_FIRST):
            same = head["image_sha"] == listed[image]
            found[image] = "changed" if not same else "accepted" if head["accepted"] else "draft"
    return found


@functools.lru_cache(maxsize=1_000_000)
def _head(path: Path, *state: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with path.open("rb") as stream:
        for name, _, value in ijson.parse(stream, buf_size=1024):
            if name in _FIRST:
                found[name] = value
                if len(found) == len(_FIRST):
                    break
    return found
