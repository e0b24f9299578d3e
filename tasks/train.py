"""Task `train`: the alignment module."""

from prefect import task

from fmbseg.steps import train as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.tracking import training_log


@task(
    name="train",
    tags=["train"],
    cache_policy=UnitPolicy(unit=lambda w: (w.train, step.key(w))),
    **UNIT,
)
def train(root: str) -> str:
    """Folder of the trained segmenter; MLflow shows the training while it runs."""
    workspace = Workspace.open(root)
    with training_log(root) as on_points:
        step.run(workspace, on_points)
    return str(workspace.train)
