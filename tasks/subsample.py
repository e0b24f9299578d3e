"""Task `subsample`: the masks that are trained on."""

from functools import partial

from prefect import task

from fmbseg.steps import subsample as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit


@task(
    name="subsample",
    cache_policy=UnitPolicy(unit=lambda w: (w.subsample, step.key(w))),
    **UNIT,
)
def subsample(root: str) -> str:
    """Folder of the kept masks."""
    workspace = Workspace.open(root)
    return run_unit(workspace, "subsample", workspace.subsample, partial(step.run, workspace))
