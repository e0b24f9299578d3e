"""`fmbseg run`: all steps in this process, without Prefect, MLflow or DVC."""

import argparse
import contextlib
import shlex
import textwrap
import time

from tqdm import tqdm

from fmbseg.commands.answer import Answer
from fmbseg.errors import UserError
from fmbseg.interrupts import stops_twice
from fmbseg.steps.choose_workspace import Asked, open_workspace
from fmbseg.steps.departures import departure_lines
from fmbseg.steps.ending import ending, program, shortest
from fmbseg.steps.figures import flat, foundation, of_methods, summary
from fmbseg.steps.plan import run_plan
from fmbseg.steps.ready import not_ready
from fmbseg.steps.shards import quarantined
from fmbseg.steps.step import Unit
from fmbseg.steps.time_left import time_left
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError


def run(arguments: argparse.Namespace) -> Answer:
    """Bring a workspace up to date, then print its figures and where its outputs lie."""
    given = {name: getattr(arguments, name) for name in Asked.__dataclass_fields__}
    workspace = Workspace.open(open_workspace(Asked(**given), tqdm.write))
    if (problem := not_ready(workspace)) is not None:
        raise UserError(problem)
    for line in departure_lines(workspace.params):
        print(textwrap.fill(f"==> {line}", 110, subsequent_indent="    "), flush=True)
    began = time.perf_counter()
    with stops_twice():
        run_plan(workspace.root, run=make_unit)
    print(summary(workspace))
    print(ending(workspace, [_again(workspace)]))
    page = shortest(workspace.report / "index.html")
    seconds = time.perf_counter() - began
    print(f"pipeline: {seconds:.0f} s    report: {page}")
    return Answer({
        "workspace": workspace.root, "data_set": workspace.data_set, "model": workspace.train,
        "report": workspace.report / "index.html",
        "figures": flat(of_methods(workspace), foundation(workspace)),
        "quarantined": quarantined(workspace), "seconds": round(seconds, 1),
    })  # fmt: skip


def make_unit(unit: Unit) -> bool:
    """Make a unit; what was computed is a line on standard output, with the time that is left."""
    computed = unit.run()
    if computed:
        tqdm.write(unit.words(computed))
        with contextlib.suppress(StoreError, OSError):  # an estimate is no part of the work
            left = time_left(unit.workspace)
            if left.seconds:
                tqdm.write(left.words())
    return computed


def _again(workspace: Workspace) -> tuple[str, str]:
    run = f"{shlex.quote(program())} run"
    if workspace.data_set == "miniature":
        own = f"{run} --images path/to/images --classes path/to/classes.txt"
        return own, "your own photographs, in a folder below runs/"
    what = f"after new images, or edits of {shortest(workspace.root / 'params.yaml')}"
    return f"{run} --workspace {shlex.quote(shortest(workspace.root))}", what
