"""The Prefect tasks `download`, `pseudo_masks`, ...: one a step, made from its record."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect import Task, task

from fmbseg.steps.plan import PLAN, unit_named
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.task_logging import run_unit
from tasks.tracking import training_log

LISTENERS: dict[str, Callable[[str], AbstractContextManager[Any]]] = {"train": training_log}
"""Step to the context manager that gives it a listener, handed to the step as `on_points`."""


def unit_task(step: Step) -> Task[[str, str], str]:
    """The task that makes one unit of a step.

    Args:
        step: its record.

    Returns:
        A task of (root: the workspace or a file of its parameters, unit: name within the step)
        that returns the path of the unit's folder, or of the file in it that people open first.
    """

    def make(root: str, unit: str) -> str:
        one = unit_named(Workspace.open(root), step.name, unit)
        with LISTENERS.get(step.name, _none)(root) as listener:
            run_unit(one, one.run if listener is None else lambda: one.run(on_points=listener))
        return str(one.folder / step.file)

    make.__doc__ = f"Make a unit of the step `{step.name}`; returns its path."
    return task(
        name=step.name,
        task_run_name=f"{step.name} {{unit}}" if step.mapped else step.name,
        cache_policy=UnitPolicy(step=step.name),
        **UNIT,
    )(make)


def _none(root: str) -> AbstractContextManager[None]:
    return nullcontext()


TASKS: dict[str, Task[[str, str], str]] = {step.name: unit_task(step) for step in PLAN}
"""Map each step's name to its task."""
