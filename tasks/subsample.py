"""Task `subsample`: the masks that are trained on."""

from prefect import task

from fmbseg.steps import subsample as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy


@task(
    name="subsample",
    cache_policy=UnitPolicy(unit=lambda workspace: (workspace.subsample, step.key(workspace))),
    persist_result=True,
    result_storage=RESULTS,
)
def subsample(root: str) -> str:
    """Folder of the kept masks."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.subsample)
