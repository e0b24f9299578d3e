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
    task_run_name="evaluate {method}",
    tags=["evaluate"],
    cache_policy=UnitPolicy(unit=lambda w, method: (step.folder(w, method), step.key(w, method))),
    **UNIT,
)
def evaluate(root: str, method: str) -> str:
    """Folder of the method's figures."""
    workspace = Workspace.open(root)
    folder = step.folder(workspace, method)
    return run_unit(
        workspace,
        f"evaluate {method}",
        folder,
        partial(step.run, workspace, method),
        lambda _: _figure(read_json(folder / "metrics.json")),
    )


def _figure(metrics: dict[str, Any]) -> str:
    if "miou" in metrics:
        return f"mIoU {metrics['miou']:.3f}"
    return f"presence F1 {metrics['presence']['f1']:.3f}"


def training_free(root: str) -> list[str]:
    """What can be scored before anything is trained."""
    return [method for method in step.units(Workspace.open(root)) if method != "fmbseg"]


def trained(root: str) -> list[str]:
    """What needs the trained module."""
    return [method for method in step.units(Workspace.open(root)) if method == "fmbseg"]
