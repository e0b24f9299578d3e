"""Task `report`: one static page."""

from functools import partial

from prefect import task

from fmbseg.steps import report as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit


@task(
    name="report",
    cache_policy=UnitPolicy(unit=lambda w: (w.report, step.key(w)), file="index.html"),
    **UNIT,
)
def report(root: str) -> str:
    """Path of index.html."""
    workspace = Workspace.open(root)
    run_unit(workspace, "report", workspace.report, partial(step.run, workspace))
    return str(workspace.report / "index.html")
