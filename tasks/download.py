"""Task `download`: one data set in place."""

from functools import partial

from prefect import task

from fmbseg.steps import download as step
from fmbseg.steps.workspace import Listing, Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit


@task(
    name="download",
    task_run_name="download {data_set}",
    cache_policy=UnitPolicy(
        unit=lambda w, data_set: (step.folder(w, data_set), step.key(w, data_set))
    ),
    **UNIT,
)
def download(root: str, data_set: str) -> str:
    """Folder of the data set."""
    workspace = Workspace.open(root)
    return run_unit(
        workspace,
        f"download {data_set}",
        step.folder(workspace, data_set),
        partial(step.run, workspace, data_set),
        lambda _: f"{len(Listing.read(step.folder(workspace, data_set)).images)} images",
    )


def data_sets(root: str) -> list[str]:
    """The data sets to put in place."""
    return step.units(Workspace.open(root))
