"""`fmbseg label`: a folder of images and class names in, labels in a format of another tool out."""

import argparse
import time

from fmbseg.commands.answer import Answer
from fmbseg.commands.class_list import class_list
from fmbseg.commands.export import for_programs, overrides, write
from fmbseg.commands.run import make_unit
from fmbseg.commands.workspace_of import workspace_of
from fmbseg.errors import UserError
from fmbseg.interrupts import stops_twice
from fmbseg.params import load_params
from fmbseg.steps.ending import review_command, shortest
from fmbseg.steps.export_source import model_folder
from fmbseg.steps.plan import run_plan
from fmbseg.steps.ready import not_ready
from fmbseg.steps.review import queue_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store.names import printable

METHODS = {"stage1": "all", "fmbseg": "predictions"}
"""Method to what is exported of it: `export.source`."""
LOOK_AT = 10
"""So many of the most doubtful images are named."""


def label(arguments: argparse.Namespace) -> Answer:
    """Make the masks (and train, where asked), export them, and say which images to look at."""
    vocabulary = class_list(arguments.classes, "--classes")
    if arguments.model is not None and arguments.method != "fmbseg":
        raise UserError("--model: a trained folder goes with --method fmbseg")
    began = time.perf_counter()
    root = workspace_of(arguments, vocabulary)
    if (problem := not_ready(Workspace.open(root))) is not None:
        raise UserError(problem)
    if arguments.model is not None:
        last = "download"
    else:
        last = "review" if arguments.method == "stage1" else "train"
    with stops_twice():
        run_plan(root, last, run=make_unit)
        source = {"export.source": METHODS[arguments.method]}
        params = load_params(root / "params.yaml", overrides(arguments) | source)
        workspace = Workspace(root, params)
        if arguments.method == "fmbseg" and not model_folder(workspace).is_dir():
            raise UserError(f"--model: no such folder {model_folder(workspace)}")
        facts = write(workspace, arguments.format, arguments.out)
    doubts: dict[str, float] = facts["doubts"]
    if arguments.method == "stage1":  # the same masks, so that no near-copies follow one another
        doubtful = [entry.image for entry in queue_of(workspace)]
    else:
        doubtful = sorted(doubts, key=lambda name: -doubts[name])
    print("look at these first (docs/label.md says what doubt and their order are):")
    for name in doubtful[:LOOK_AT]:
        print(printable(f"  {doubts[name]:.2f} {name}"))
    page, seconds = shortest(arguments.out / "index.html"), time.perf_counter() - began
    print(f"labels: {seconds:.0f} s    contact sheet: {page}")
    print(printable(f"put masks right in a page: {review_command(workspace)}"))
    print(f"masks and models stay in {shortest(root)}/, where `fmbseg run` goes on")
    first = [{"image": name, "doubt": doubts[name]} for name in doubtful[:LOOK_AT]]
    return Answer({
        "workspace": root, "out": arguments.out, **for_programs(facts), "look_at_first": first,
        "page": page, "seconds": round(seconds, 1),
    })  # fmt: skip
