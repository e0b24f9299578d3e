"""All units of a workspace under one face: for the stages of DVC, for checks, for tracking."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.steps import download, evaluate, pseudo_masks, report, subsample, train
from fmbseg.steps.code import CODE
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, UnitKey, unit_problem

STEPS = tuple(CODE)


@dataclass(frozen=True)
class Unit:
    """One cached, resumable output.

    Attributes:
        step: name of its step.
        name: within the step; empty where the step has one unit.
        folder: its output.
        key: computes its content key; earlier steps must be done.
        run: makes it; True when there was something to do.
    """

    step: str
    name: str
    folder: Path
    key: Callable[[], UnitKey]
    run: Callable[[], bool]


def units_of(workspace: Workspace, step: str) -> list[Unit]:
    """The units of a step, in order; earlier steps must be done."""
    if step in _MANY:
        module = _MANY[step]
        return [
            Unit(
                step, name, module.folder(workspace, name),
                partial(module.key, workspace, name), partial(module.run, workspace, name),
            )
            for name in _names(workspace, step)
        ]  # fmt: skip
    one, folder = _ONE[step], getattr(workspace, step)
    return [Unit(step, "", folder, partial(one.key, workspace), partial(one.run, workspace))]


_MANY: dict[str, Any] = {
    "download": download, "pseudo_masks": pseudo_masks, "evaluate": evaluate
}  # fmt: skip
_ONE: dict[str, Any] = {"subsample": subsample, "train": train, "report": report}


def _names(workspace: Workspace, step: str) -> list[str]:
    if step == "pseudo_masks":
        return list(pseudo_masks.shards(workspace))
    return download.units(workspace) if step == "download" else evaluate.units(workspace)


def run_step(workspace: Workspace, step: str) -> dict[str, bool]:
    """Run all units of a step one after the other; name to whether there was something to do."""
    if step == "pseudo_masks":
        pseudo_masks.salvage(workspace)
    if step == "evaluate":
        workspace.evaluate.mkdir(parents=True, exist_ok=True)  # empty where nothing is scored
    done = {unit.name: unit.run() for unit in units_of(workspace, step)}
    if step == "pseudo_masks":
        pseudo_masks.finish(workspace)
    return done


def keys(workspace: Workspace) -> dict[str, str]:
    """Folder relative to the workspace to digest of the key, of every unit; all must be done."""
    return {
        unit.folder.relative_to(workspace.root).as_posix(): unit.key().digest
        for step in STEPS
        for unit in units_of(workspace, step)
    }


def problem(workspace: Workspace) -> str | None:
    """The first unit that is not up to date, with the reason; None when all are."""
    for step in STEPS:
        try:
            for unit in units_of(workspace, step):
                found = unit_problem(unit.folder, unit.key())
                if found is not None:
                    return f"{unit.folder.relative_to(workspace.root)}: {found}"
        except (StoreError, OSError) as error:
            return f"{step}: {error}"
    return None
