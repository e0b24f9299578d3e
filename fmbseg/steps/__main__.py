"""`python -m fmbseg.steps STEP`: what a DVC stage calls. The same step functions as the tasks."""

import argparse
import sys
from pathlib import Path

import torch

from fmbseg.params import ParamsError
from fmbseg.steps import download, evaluate, pseudo_masks, report, subsample, train
from fmbseg.steps.workspace import CODE, Workspace


def main() -> int:
    """Run all units of one step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fmbseg.steps", description=__doc__)
    parser.add_argument("step", choices=tuple(CODE))
    parser.add_argument("--workspace", type=Path, default=Path())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        workspace = Workspace.open(arguments.workspace)
        done = _run(workspace, arguments.step)
    except (ParamsError, ValueError, OSError) as error:
        print(f"{arguments.step}: {error}", file=sys.stderr)
        return 1
    for unit, computed in done.items():
        print(f"{arguments.step} {unit}: {'computed' if computed else 'up to date'}")
    return 0


def _run(workspace: Workspace, step: str) -> dict[str, bool]:
    if step == "pseudo_masks":
        found = {
            shard: pseudo_masks.run(workspace, shard) for shard in pseudo_masks.shards(workspace)
        }
        pseudo_masks.finish(workspace)
        return found
    if step == "evaluate":
        return {method: evaluate.run(workspace, method) for method in evaluate.units(workspace)}
    steps = {"download": download, "subsample": subsample, "train": train, "report": report}
    return {"": steps[step].run(workspace)}


if __name__ == "__main__":
    sys.exit(main())
