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
from fmbseg.models.trust import trusted_overrides
from fmbseg.params_edit import write_params
from fmbseg.steps.ending import program, shortest
from fmbseg.steps.plan import run_plan
from fmbseg.steps.ready import not_ready
from fmbseg.steps.workspace import Workspace
from fmbseg.store.names import printable


def adapt(arguments: argparse.Namespace) -> Answer:
    """Let SAM find masks, let the model name them, and train it on what is clear."""
    vocabulary, model = class_list(arguments.classes, "--classes"), arguments.model.resolve()
    if not (model / DESCRIPTION).is_file():
        raise UserError(
            f"no trained model in {arguments.model}; `fmbseg run` (or `make run`) trains one, or "
            "name its folder with --model"
        )
    from fmbseg.trained_files import models_section, read_trained  # takes seconds

    began, (_, described) = time.perf_counter(), read_trained(model, "cpu", whole=True)
    section = models_section(model, described)
    own = section.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)
    named = trusted_overrides(own, model, allow_paths=False)  # a run opens what params.yaml names
    arguments.profile = section.profile
    if arguments.workspace is None:  # not that of `fmbseg run`, whose model would be replaced
        arguments.workspace = Path("runs") / f"{arguments.images.resolve().name}-adapted"
    root = workspace_of(arguments, vocabulary)
    if model == (root / "models" / "train").resolve():
        raise UserError(
            f"--model: {arguments.model} is what would be written; name another --workspace"
        )
    write_params(root / "params.yaml", {
        **{f"models.{role}": named.get(role) for role in ("clip", "sam", "vision")},
        "models.projection": section.projection, "models.template": section.template,
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
