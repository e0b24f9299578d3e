"""Task `report`: one static page."""

from prefect import task

from fmbseg.steps import report as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy


@task(
    name="report",
    cache_policy=UnitPolicy(unit=lambda workspace: (workspace.report, step.key(workspace))),
    persist_result=True,
    result_storage=RESULTS,
)
def report(root: str) -> str:
    """Path of index.html."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.report / "index.html")
