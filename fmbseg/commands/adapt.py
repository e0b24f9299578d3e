"""`fmbseg adapt`: a trained model goes on with images of another place, without labels."""

import argparse
import shlex
import time
from pathlib import Path

from fmbseg.align.settings import DESCRIPTION
from fmbseg.commands.answer import Answer
from fmbseg.commands.class_list import class_list
from fmbseg.commands.run import make_unit
from fmbseg.commands.workspace_of import workspace_of
from fmbseg.errors import UserError
from fmbseg.interrupts import stops_twice
from fmbseg.params_edit import write_params
from fmbseg.steps.ending import program, shortest
from fmbseg.steps.plan import run_plan
from fmbseg.steps.ready import not_ready
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from fmbseg.store.names import printable


def add_adapt(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg adapt` takes."""
    parser.add_argument("images", type=Path, help="folder of images (any depth), no labels needed")
    parser.add_argument(
        "--classes", required=True, help='"cat=kitten, grass" (= before synonyms), or a class file'
    )
    parser.add_argument(
        "--model", type=Path, default=Path("models/train"), help="trained folder to start from"
    )
    parser.add_argument("--workspace", type=Path, help="where work goes; default runs/<folder>")
    parser.add_argument("--epochs", type=int, default=20, help="over the images; default: 20")
    parser.add_argument("--learning-rate", type=float, default=0.03, help="its peak; default: 0.03")


def adapt(arguments: argparse.Namespace) -> Answer:
    """Let SAM find masks, let the model name them, and train it on what is clear."""
    vocabulary, model = class_list(arguments.classes, "--classes"), arguments.model.resolve()
    if not (model / DESCRIPTION).is_file():
        raise UserError(
            f"no trained model in {arguments.model}; `fmbseg run` (or `make run`) trains one, or "
            "name its folder with --model"
        )
    began, described = time.perf_counter(), read_json(model / DESCRIPTION)
    arguments.profile = described["models"]["profile"]
    root = workspace_of(arguments, vocabulary)
    own = (root / "models" / "train").resolve()
    if model == own:
        raise UserError(
            f"--model: {arguments.model} is what would be written; name another --workspace"
        )
    write_params(root / "params.yaml", {
        **{f"models.{key}": value for key, value in described["models"].items()},
        "train.input_short_side_px": described["input_short_side_px"],
        "train.init_from": str(model), "train.labels": "student",
        "train.epochs": arguments.epochs, "train.learning_rate": arguments.learning_rate,
    })  # fmt: skip
    if (problem := not_ready(Workspace.open(root))) is not None:
        raise UserError(problem)
    with stops_twice():
        run_plan(root, "train", run=make_unit)
    trained, seconds = Workspace.open(root).train, time.perf_counter() - began
    print(f"adapted: {seconds:.0f} s    model: {shortest(trained)}")
    call = [program(), "predict", shortest(arguments.images), "--classes",
            shortest(root / "classes.txt"), "--model", shortest(trained)]  # fmt: skip
    print(printable(f"use it: {shlex.join(str(word) for word in call)}"))
    return Answer({"workspace": root, "model": trained, "seconds": round(seconds, 1)})
