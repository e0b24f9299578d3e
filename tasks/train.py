"""Task `train`: the alignment module."""

from prefect import task

from fmbseg.steps import train as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy


@task(
    name="train",
    cache_policy=UnitPolicy(unit=lambda workspace: (workspace.train, step.key(workspace))),
    persist_result=True,
    result_storage=RESULTS,
)
def train(root: str) -> str:
    """Folder of the trained segmenter."""
    workspace = Workspace.open(root)
    step.run(workspace)
    return str(workspace.train)
