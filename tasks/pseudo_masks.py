"""Task `pseudo_masks`: stage 1 for one shard of images."""

from functools import partial

from prefect import task

from fmbseg.steps import pseudo_masks as step
from fmbseg.steps.workspace import Workspace
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit


@task(
    name="pseudo_masks",
    task_run_name="pseudo_masks {shard}",
    cache_policy=UnitPolicy(unit=lambda w, shard: (step.folder(w, shard), step.key(w, shard))),
    **UNIT,
)
def pseudo_masks(root: str, shard: str) -> str:
    """Folder of the shard's masks."""
    workspace = Workspace.open(root)
    return run_unit(
        workspace,
        f"pseudo_masks {shard}",
        step.folder(workspace, shard),
        partial(step.run, workspace, shard),
        lambda line: f"{line.get('computed', 0)} images computed, {line.get('reused', 0)} reused",
    )


def shards(root: str) -> list[str]:
    """The shards to compute, in order; masks that a moved image has already are kept for it."""
    workspace = Workspace.open(root)
    step.salvage(workspace)
    return list(step.shards(workspace))


def finish(root: str) -> None:
    """Drop outdated shards and hold the share of bad images to its limit; never cached."""
    step.finish(Workspace.open(root))
