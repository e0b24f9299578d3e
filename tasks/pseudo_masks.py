"""Task `pseudo_masks`: stage 1 for one shard of images."""

from prefect import task

from fmbseg.steps import pseudo_masks as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy


@task(
    name="pseudo_masks",
    task_run_name="pseudo_masks {shard}",
    tags=["pseudo_masks"],
    cache_policy=UnitPolicy(unit=lambda w, shard: (step.folder(w, shard), step.key(w, shard))),
    **UNIT,
)
def pseudo_masks(root: str, shard: str) -> str:
    """Folder of the shard's masks."""
    workspace = Workspace.open(root)
    step.run(workspace, shard)
    return str(step.folder(workspace, shard))


def shards(root: str) -> list[str]:
    """The shards to compute, in order; masks that a moved image has already are kept for it."""
    workspace = Workspace.open(root)
    step.salvage(workspace)
    return list(step.shards(workspace))


def finish(root: str) -> None:
    """Drop outdated shards and hold the share of bad images to its limit; never cached."""
    step.finish(Workspace.open(root))
