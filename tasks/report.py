"""Task `report`: one static page."""

from prefect import task

from fmbseg.steps import report as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy


@task(
    name="report",
    tags=["report"],
    cache_policy=UnitPolicy(unit=lambda w: (w.report, step.key(w)), file="index.html"),
    **UNIT,
)
def report(root: str) -> str:
    """Path of index.html."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.report / "index.html")
