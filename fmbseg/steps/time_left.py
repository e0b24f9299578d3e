"""Estimate how much longer a run takes, from the times that the journal holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fmbseg.progress import clock
from fmbseg.steps.plan import PLAN
from fmbseg.steps.running import like
from fmbseg.steps.shards import shards
from fmbseg.steps.step import Step, Unit
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError


@dataclass(frozen=True)
class TimeLeft:
    """What is still to be computed.

    Attributes:
        seconds: of each step that has been computed before with these settings, wall clock.
        unknown: the steps that have not.
    """

    seconds: dict[str, float]
    unknown: tuple[str, ...]

    def words(self) -> str:
        """One line; empty where nothing is left."""
        if not self.seconds and not self.unknown:
            return ""
        if not self.seconds:
            tells = "the first shard tells" if "pseudo_masks" in self.unknown else "no run before"
            return f"no estimate yet: {tells} ({', '.join(self.unknown)} to do)"
        total = clock(sum(self.seconds.values()))
        parts = ", ".join(f"{step} {clock(seconds)}" for step, seconds in self.seconds.items())
        and_more = f"; and {', '.join(self.unknown)}, not timed yet" if self.unknown else ""
        return f"about {total} left: {parts}{and_more}"


def time_left(workspace: Workspace) -> TimeLeft:
    """Look which units are out of date and how long such units took; the data must be in place."""
    seconds: dict[str, float] = {}
    unknown = []
    left = list(units_left(workspace))
    for step in PLAN[1:]:
        each = [took for unit, took in left if unit.of is step]
        known = [one for one in each if one is not None]
        if len(known) < len(each):
            unknown.append(step.name)
        if known:
            at_once = workspace.params.runner.workers if step.mapped else 1
            seconds[step.name] = max(sum(known) / at_once, max(known))
    return TimeLeft(seconds, tuple(unknown))


def units_left(workspace: Workspace) -> Iterator[tuple[Unit, float | None]]:
    """The units that will be computed, with the seconds that units like them took before.

    The data must be in place. Seconds are None where the journal has no such unit.
    """
    journal = workspace.journal.lines()
    outdated = set[str]()
    for step in PLAN[1:]:
        to_do = list(_to_do(workspace, step, outdated))
        if to_do:
            outdated.add(step.name)
        same = like(workspace, step.name)
        lines = [one for one in journal if (one.get("step"), one.get("like")) == (step.name, same)]
        for unit in to_do:
            yield unit, _seconds(workspace, unit, lines)


def _to_do(workspace: Workspace, step: Step, outdated: set[str]) -> Iterator[Unit]:
    """The step's units that will be computed, where those of the outdated steps will be.

    Of many shards the first that is there answers for all: their keys differ in the images alone.
    """
    checked = False
    for unit in step.units_in(workspace):
        if outdated & set(unit.needs()) or not (unit.folder / MANIFEST).is_file():
            yield unit
            continue
        if checked and step.name == "pseudo_masks":
            continue
        try:
            problem = unit.problem()
        except (StoreError, OSError):
            problem = "what it needs is not there"
        if problem is not None:
            yield unit
        else:
            checked = True


def _seconds(workspace: Workspace, unit: Unit, lines: list[dict[str, Any]]) -> float | None:
    """How long a unit will take by its step's lines; None where none like it was computed."""
    if unit.of.name == "pseudo_masks":
        fresh = [line for line in lines if line.get("computed")]
        images = sum(line["computed"] for line in fresh)
        count = len(shards(workspace)[unit.name])
        return sum(line["seconds"] for line in fresh) / images * count if images else None
    size = workspace.size()
    # The longest, since a line may be of the second half of a unit that was cut.
    return max(
        (
            line["seconds"]
            * (1 if unit.of.name == "evaluate" else size / (line["of_images"] or size))
            for line in lines
            if line["unit"] == unit.place
        ),
        default=None,
    )
