"""Task `evaluate`: one method on one data set."""

from prefect import task

from fmbseg.steps import evaluate as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy


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
    step.run(workspace, method)
    return str(step.folder(workspace, method))


def training_free(root: str) -> list[str]:
    """What can be scored before anything is trained."""
    return [method for method in step.units(Workspace.open(root)) if method != "fmbseg"]


def trained(root: str) -> list[str]:
    """What needs the trained module."""
    return [method for method in step.units(Workspace.open(root)) if method == "fmbseg"]
