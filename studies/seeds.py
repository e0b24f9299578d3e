"""`make readme`: the trained method's figures over several seeds of its training.

A cell trains and scores on the last run's own images and pseudo masks with another `train.seed`:
what differs is the head's first weights, the order of the images and the patches drawn.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.methods.table import OURS
from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace
from studies.cells import PARAMS, SHARED, Cell, run_all, share, up_to_date

ROOT = Path("runs/seeds")
_UNTIL = "evaluate"
_FOUNDATION = f"reports/evaluate/{evaluate.FOUNDATION}-*"


class NotRunError(RuntimeError):
    """There is no finished run whose masks could be trained on."""


def cells(base: Path, seeds: int, root: Path = ROOT) -> list[Cell]:
    """The seeds but the first, which the run itself has.

    Args:
        base: workspace of the run.
        seeds: how many, with the run's own.
        root: where the cells lie.

    Raises:
        NotRunError: the run is not finished, or its parameters or code have changed since.
    """
    workspace = Workspace.open(base)
    if not up_to_date(workspace, _UNTIL):
        raise NotRunError(f"{base.resolve()}: no finished run of today's parameters and code; "
                          "make run first")  # fmt: skip
    first = workspace.params.train.seed
    same: dict[str, Any] = {"evaluate.methods": [OURS], "runner.workers": 1}
    for name, folder in (("drops", workspace.drops), ("corrections", workspace.corrections)):
        if folder.is_dir():  # what came in lies there, not in the cell
            same[f"data.{name}"] = str(folder.resolve())
    return [
        Cell(
            root / f"seed-{seed}",
            {**same, "train.seed": seed},
            prepare=partial(share, base, root / f"seed-{seed}", (*SHARED, _FOUNDATION)),
            until=_UNTIL,
            params=base / PARAMS,
        )
        for seed in range(first + 1, first + seeds)
    ]


def again(base: Path, seeds: int, root: Path = ROOT) -> Mapping[str, Sequence[dict[str, Any]]]:
    """Unit to the trained method's metrics with the further seeds; what is there is kept.

    Args:
        base: workspace of the run.
        seeds: how many, with the run's own.
        root: where they are computed.

    Raises:
        NotRunError: see `cells`.
        CellError: a step failed.
    """
    found = cells(base, seeds, root)
    run_all(found, "seeds")
    units = [one for one in evaluate.scored(Workspace.open(base)) if one.startswith(f"{OURS}-")]
    return {unit: [cell.metrics(OURS, unit.partition("-")[2]) for cell in found]
            for unit in units}  # fmt: skip
