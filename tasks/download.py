"""Task `download`: one data set in place."""

from prefect import task

from fmbseg.steps import download as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy


@task(
    name="download",
    task_run_name="download {data_set}",
    tags=["download"],
    cache_policy=UnitPolicy(
        unit=lambda w, data_set: (step.folder(w, data_set), step.key(w, data_set))
    ),
    **UNIT,
)
def download(root: str, data_set: str) -> str:
    """Folder of the data set."""
    workspace = Workspace.open(root)
    step.run(workspace, data_set)
    return str(step.folder(workspace, data_set))


def data_sets(root: str) -> list[str]:
    """The data sets to put in place."""
    return step.units(Workspace.open(root))
