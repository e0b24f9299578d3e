"""Task `download`: the data set in place."""

from prefect import task

from fmbseg.steps import download as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy


@task(
    name="download",
    cache_policy=UnitPolicy(unit=lambda workspace: (workspace.download, step.key(workspace))),
    persist_result=True,
    result_storage=RESULTS,
)
def download(root: str) -> str:
    """Folder of the data set."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.download)
