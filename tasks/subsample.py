"""Task `subsample`: the masks that are trained on."""

from prefect import task

from fmbseg.steps import subsample as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy


@task(
    name="subsample",
    tags=["subsample"],
    cache_policy=UnitPolicy(unit=lambda w: (w.subsample, step.key(w))),
    **UNIT,
)
def subsample(root: str) -> str:
    """Folder of the kept masks."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.subsample)
