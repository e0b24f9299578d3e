"""What a step is: a record of all that the flow, DVC and a plain run need to know of it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, unit_problem


@dataclass(frozen=True)
class Step:
    """One step of the pipeline; its output is one unit, or several of the same kind.

    A unit is an output folder with a manifest. It is computed unless its content key says that
    what lies there is what would be computed.

    Attributes:
        name: of the step: also its section of params.yaml, its DVC stage and its module.
        writes: the folder below the workspace that holds its units.
        reads: earlier steps whose outputs its units read, the first of which its list of units
            follows from.
        key: (workspace, unit) to the unit's content key; what the unit reads must be there.
        run: (workspace, unit) makes the unit; True when there was something to do.
        units: the names of its units; one without a name where there is just one.
        keys: where there are many units: reads once what their keys share, and returns what maps a
            unit's name to its key.
        needs: (workspace, unit) to those of `reads` that this unit reads; None: all of them.
        before: prepares for the units; runs once, before the first of them.
        after: runs once, after the last unit.
        mapped: whether its units run side by side on the workers.
        file: of a unit's folder, what people open first.
        outcome: (workspace, unit, line of the journal) to a few words on what was computed.
    """

    name: str
    writes: str
    key: Callable[[Workspace, str], UnitKey]
    run: Callable[..., bool]
    reads: tuple[str, ...] = ()
    units: Callable[[Workspace], Sequence[str]] = lambda workspace: ("",)
    keys: Callable[[Workspace], Callable[[str], UnitKey]] | None = None
    needs: Callable[[Workspace, str], tuple[str, ...]] | None = None
    before: Callable[[Workspace], object] = lambda workspace: None
    after: Callable[[Workspace], object] = lambda workspace: None
    mapped: bool = False
    file: str = ""
    outcome: Callable[[Workspace, str, Mapping[str, Any]], str] | None = None

    def units_in(self, workspace: Workspace) -> list["Unit"]:
        """Units of the step, in order; the first step of `reads` must have finished.

        What their keys share is read once, when the first of them is asked for its key.
        """
        if self.keys is None:
            return [Unit(workspace, self, name) for name in self.units(workspace)]
        shared = functools.cache(functools.partial(self.keys, workspace))
        return [
            Unit(workspace, self, name, lambda name: shared()(name))
            for name in self.units(workspace)
        ]


@dataclass(frozen=True)
class Unit:
    """One output folder of a step: cached, and resumed after an interruption.

    Attributes:
        workspace: where it lies.
        of: the step that makes it.
        name: within the step; empty where the step has one unit.
        key_of: maps its name to its key, where what the keys of all units share was read already.
    """

    workspace: Workspace
    of: Step
    name: str
    key_of: Callable[[str], UnitKey] | None = field(default=None, repr=False, compare=False)

    @property
    def title(self) -> str:
        """Name in logs: the step's name and its own."""
        return f"{self.of.name} {self.name}".rstrip()

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.workspace.root / self.of.writes / self.name

    @property
    def place(self) -> str:
        """The output folder, relative to the workspace."""
        return self.folder.relative_to(self.workspace.root).as_posix()

    def key(self) -> UnitKey:
        """The content key; what the unit reads must be there."""
        return self.key_of(self.name) if self.key_of else self.of.key(self.workspace, self.name)

    def needs(self) -> tuple[str, ...]:
        """Names of the steps whose outputs it reads."""
        return self.of.needs(self.workspace, self.name) if self.of.needs else self.of.reads

    def run(self, **listeners: Any) -> bool:
        """Make it; True when there was something to do."""
        return self.of.run(self.workspace, self.name, **listeners)

    def words(self, computed: bool) -> str:
        """What to say of it once it was run: what was computed, and how long that took.

        Args:
            computed: what `run` returned.
        """
        if not computed:
            return f"{self.title}: up to date by now"
        lines = reversed(self.workspace.journal.lines())
        line = next((line for line in lines if line["unit"] == self.place), {"seconds": 0.0})
        said = f"{line['seconds']:.0f} s"
        if self.of.outcome is not None:
            said = f"{self.of.outcome(self.workspace, self.name, line)}, {said}"
        return f"{self.title}: {said}"

    def problem(self) -> str | None:
        """Why it has to be computed; None when it is up to date."""
        return unit_problem(self.folder, self.key())
