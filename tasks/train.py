"""Task `train`: the alignment module."""

from functools import partial

from prefect import task

from fmbseg.steps import train as step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.caching import UNIT, UnitPolicy
from tasks.lines import run_unit
from tasks.tracking import training_log


@task(
    name="train",
    cache_policy=UnitPolicy(unit=lambda w: (w.train, step.key(w))),
    **UNIT,
)
def train(root: str) -> str:
    """Folder of the trained segmenter; MLflow shows the training while it runs."""
    workspace = Workspace.open(root)
    with training_log(root) as on_points:
        return run_unit(
            workspace,
            "train",
            workspace.train,
            partial(step.run, workspace, on_points),
            lambda _: _loss(workspace),
        )


def _loss(workspace: Workspace) -> str:
    last = read_json(workspace.train / "history.json")[-1]
    return f"loss {last['loss']:.3f} after {last['step']} steps"
