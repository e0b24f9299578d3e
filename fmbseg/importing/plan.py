"""What an import would do: every image of a tool's files checked and compared, nothing written."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fmbseg.corrections.store import (
    Change,
    CorrectedRegion,
    Correction,
    now,
    read_correction,
)
from fmbseg.export.formats import FORMATS
from fmbseg.export.record import ExportRecord, ShownImage
from fmbseg.importing.compare import Comparison, compare
from fmbseg.importing.edited import EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.readers import READERS
from fmbseg.importing.saving import Imported, imported_before, regions_sha
from fmbseg.importing.shapes import size
from fmbseg.progress import progress
from fmbseg.store import StoreError

Accept = Literal["changed", "all", "none"]
_HINTS = 20
"""For so many unknown images the nearest name is looked for, among all of the export."""


@dataclass(frozen=True)
class Target:
    """Where corrections go, and what images they may be of.

    Attributes:
        folder: all corrections of the workspace.
        shas: name of each of its images to the SHA-256 of its content.
        class_names: its classes.
    """

    folder: Path
    shas: Mapping[str, str]
    class_names: Collection[str]


@dataclass(frozen=True)
class Wishes:
    """What the user asks of an import.

    Attributes:
        by: who edited the files.
        tool: the name of their format, a key of `READERS`.
        accept: the images that become accepted corrections: those that were changed, all that
            the files have, or none of them (changed ones become drafts).
        overwrite: whether an import replaces what was corrected elsewhere since the export.
    """

    by: str
    tool: str
    accept: Accept = "changed"
    overwrite: bool = False


@dataclass
class Plan:
    """What an import found.

    Attributes:
        corrections: to be saved, by image.
        read: images of the files.
        same: images of the files that nobody changed.
        known: images whose changes were imported before.
        changes: how many masks were relabelled, redrawn, added, deleted, restacked.
        conflicts: images that were corrected elsewhere since the export, each with words.
        refused: images that cannot be imported, each with words.
    """

    corrections: dict[str, Correction] = field(default_factory=dict)
    read: int = 0
    same: int = 0
    known: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    conflicts: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def plan_import(files: Files, record: ExportRecord, target: Target, wishes: Wishes) -> Plan:
    """Read all, compare it with the export, and say what would be saved.

    Args:
        files: that a tool wrote.
        record: of the export that was edited.
        target: the workspace.
        wishes: what is asked.

    Raises:
        EditError: the files cannot be read at all.
    """
    plan = Plan()
    seen: dict[str, str] = {}
    overlaps = FORMATS[wishes.tool].overlaps
    imported = imported_before(target.folder, record.sha)
    with progress(f"import {wishes.tool}", total=len(record)) as bar:
        for edited in READERS[wishes.tool](files, record):
            plan.read += 1
            bar.update()
            try:
                name = _name(edited, record, seen, len(plan.refused) < _HINTS)
                shown = record.image(name)
                _check_size(edited, shown)
                found = compare(shown, edited.drawn(shown.image_hw), record, overlaps)
                if not found.changes and name not in imported and wishes.accept != "all":
                    plan.same += 1
                    continue
                _check(shown, found, target)
                _add(plan, shown, found, record, target, wishes, imported.get(name))
            except (EditError, StoreError) as error:
                plan.refused[edited.called] = str(error)
    return plan


def _name(edited: EditedImage, record: ExportRecord, seen: dict[str, str], hint: bool) -> str:
    name = record.named(edited.called)
    if name is None:
        near = record.nearest(edited.called) if hint else None
        raise EditError("no image of the export" + (f"; nearest: {near!r}" if near else ""))
    if name in seen:
        raise EditError(f"is {name!r}, and so is {seen[name]!r}; wanted one of them")
    seen[name] = edited.called
    return name


def _check_size(edited: EditedImage, shown: ShownImage) -> None:
    if edited.image_hw not in (None, shown.image_hw):
        raise EditError(
            f"found labels of {size(edited.image_hw or (0, 0))}; wanted {size(shown.image_hw)}"
        )


def _check(shown: ShownImage, found: Comparison, target: Target) -> None:
    """Refuse what the workspace has no place for any more."""
    sha = target.shas.get(shown.name)
    if sha != shown.sha:
        what = "no such image" if sha is None else "another picture of that name"
        raise EditError(f"found {what} in the workspace; wanted the one that was exported")
    for region in found.regions:
        if region.class_name not in target.class_names:
            raise EditError(
                f"found the class {region.class_name!r}, which the workspace has no more; put it "
                "back into the class file"
            )


def _add(
    plan: Plan, shown: ShownImage, found: Comparison, record: ExportRecord, target: Target,
    wishes: Wishes, before: Imported | None,
) -> None:  # fmt: skip
    """Add an image that is to be saved, unless it has been, or somebody else corrected it."""
    stored = read_correction(target.folder, shown.name)
    accepted = wishes.accept != "none"
    again = before is not None and before.regions == regions_sha(found.regions)
    taken = stored and (stored.regions == found.regions or (again and not wishes.overwrite))
    if stored and taken and stored.accepted >= accepted:
        plan.known += 1
        return
    theirs = stored and stored.revision != (before.revision if before else shown.revision)
    if stored and theirs and stored.regions != _as_shown(shown) and not wishes.overwrite:
        last = stored.history[-1]
        plan.conflicts[shown.name] = f"corrected since by {last.by} ({last.tool}, {last.at})"
        return
    what = ", ".join(f"{count} {kind}" for kind, count in found.changes.items())
    change = Change(wishes.by, now(), wishes.tool, what or "as it was")
    plan.changes += found.changes
    plan.corrections[shown.name] = Correction(
        shown.name, shown.sha, shown.image_hw, tuple(_choices(record)), found.regions, accepted,
        (*(stored.history if stored else ()), change), stored.revision if stored else 0,
    )  # fmt: skip


def _as_shown(shown: ShownImage) -> tuple[CorrectedRegion, ...]:
    """The regions of a correction that says what was exported: whoever edits that edits this."""
    return tuple(
        CorrectedRegion(one.class_name, one.rle, one.origin, one.score) for one in shown.regions
    )


def _choices(record: ExportRecord) -> Iterator[str]:
    """The workspace's classes that the export had."""
    for parts in record.classes.values():
        yield from parts
