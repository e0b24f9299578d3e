"""Task `pseudo_masks`: stage 1 for one shard of images."""

from prefect import task

from fmbseg.steps import pseudo_masks as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import RESULTS, UnitPolicy


@task(
    name="pseudo_masks",
    task_run_name="pseudo_masks {shard}",
    cache_policy=UnitPolicy(
        unit=lambda workspace, shard: (workspace.pseudo_masks / shard, step.key(workspace, shard))
    ),
    persist_result=True,
    result_storage=RESULTS,
)
def pseudo_masks(root: str, shard: str) -> str:
    """Folder of the shard's masks."""
    workspace = Workspace.open(root)
    step.run(workspace, shard)
    return str(workspace.pseudo_masks / shard)


def finish(root: str) -> None:
    """Drop outdated shards and hold the share of bad images to its limit; never cached."""
    step.finish(Workspace.open(root))


def shard_names(root: str) -> list[str]:
    """The shards there are, in order; the download step must be done."""
    return list(step.shards(Workspace.open(root)))
