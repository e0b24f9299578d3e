"""Task `evaluate`: one method on one data set."""

from functools import partial
from typing import Any

from prefect import task

from fmbseg.steps import evaluate as step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit


@task(
    name="evaluate",
    task_run_name="evaluate {unit}",
    cache_policy=UnitPolicy(unit=lambda w, unit: (step.folder(w, unit), step.key(w, unit))),
    **UNIT,
)
def evaluate(root: str, unit: str) -> str:
    """Folder of the method's figures."""
    workspace = Workspace.open(root)
    folder = step.folder(workspace, unit)
    return run_unit(
        workspace,
        f"evaluate {unit}",
        folder,
        partial(step.run, workspace, unit),
        lambda _: _figure(read_json(folder / "metrics.json")),
    )


def _figure(metrics: dict[str, Any]) -> str:
    if "miou" in metrics:
        return f"mIoU {metrics['miou']:.3f}"
    return f"presence F1 {metrics['presence']['f1']:.3f}"


def training_free(root: str) -> list[str]:
    """What can be scored before anything is trained."""
    return [one for one in step.units(Workspace.open(root)) if not step.is_trained(one)]


def trained(root: str) -> list[str]:
    """What needs the trained module."""
    return [one for one in step.units(Workspace.open(root)) if step.is_trained(one)]
