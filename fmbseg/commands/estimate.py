"""`fmbseg estimate`: time, disk and memory of a whole run, from a few images measured here."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fmbseg.commands.answer import Answer
from fmbseg.commands.params_option import params_option
from fmbseg.errors import UserError
from fmbseg.estimate.coarse import coarse
from fmbseg.estimate.forecast import forecast, human_time, lines, rest_of_run, whole_run
from fmbseg.estimate.measure import measure
from fmbseg.estimate.sample import TYPICAL_HW, DataSet, data_sets_of
from fmbseg.models.device import resolve_device
from fmbseg.models.status import weights_status
from fmbseg.params import Params
from fmbseg.steps.evaluation_sets import benchmark_root
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.steps.workspace import Workspace

_BUSY = 0.8


def estimate(arguments: argparse.Namespace) -> Answer:
    """Measure some images and print what a run over all of them would take."""
    for name in ("workers", "sample", "budget_seconds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: wanted at least 1")
    changes, images = _asked_for(arguments)
    home = params_option(arguments.params, changes)
    params = home.params
    workers = arguments.workers or params.runner.workers
    device = resolve_device(params.device)
    torch.set_num_threads(params.threads)
    train, scored = data_sets_of(params, images, arguments.root or benchmark_root(home))
    left = whole_run(params, train, scored)
    if not arguments.images:
        left = rest_of_run(home, left)
    if not left:
        print(f"{train.title}: all is up to date, nothing is left to compute")
        return Answer({"data_set": train.title, "images": train.images, "rows": []})
    status = weights_status(params.models.profile, overrides_of(params.models))
    missing = [one.model for one in status if not one.present]
    began, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="fmbseg-estimate-") as folder:
        if missing:
            figures = coarse(params, left)
        else:
            about = human_time(arguments.budget_seconds)
            print(f"measuring, for about {about} at most", flush=True)
            place = Workspace(Path(folder), params)
            figures = measure(place, train, scored, arguments.sample, arguments.budget_seconds)
    spent = time.perf_counter() - began
    share = (time.process_time() - processor) / spent / params.threads
    print(f"{train.title}: {train.images:,} images, {len(train.classes)} classes")
    print(
        f"profile {params.models.profile} on {device}, {params.threads} torch thread(s) a process, "
        f"{os.cpu_count()} processors; measured for {human_time(spent)}"
    )
    notes = _notes(params, device, (train, *scored), missing, share, workers)
    for note in notes:
        print(f"! {note}")
    rows = forecast(params, train, scored, figures, left, workers)
    print("", *lines(rows, workers), sep="\n")
    facts = {
        "data_set": train.title, "images": train.images, "classes": len(train.classes),
        "profile": params.models.profile, "device": str(device), "workers": workers,
        "measured": not missing, "notes": notes,
        "rows": [{**vars(row), "step": row.step.strip()} for row in rows],
    }  # fmt: skip
    return Answer(facts)


def _asked_for(arguments: argparse.Namespace) -> tuple[dict[str, Any], str | None]:
    """The parameters that options replace, and --images where it is no folder."""
    changes: dict[str, Any] = {}
    images: str | None = arguments.images
    if images is not None and Path(images).is_dir():
        if arguments.classes is None:
            raise UserError("--images names a folder; wanted --classes FILE with its class names")
        classes = str(arguments.classes)
        changes = {"data.images": images, "data.classes": classes, "data.labels": None}
        images = None
    elif arguments.classes is not None:
        raise UserError("--classes: wanted --images FOLDER beside it")
    if arguments.profile is not None:
        changes["models.profile"] = arguments.profile
    return changes, images


def _notes(
    params: Params, device: torch.device, data_sets: Sequence[DataSet], missing: Sequence[str],
    share: float, workers: int,
) -> list[str]:  # fmt: skip
    """What a reader has to know before believing the table."""
    processors = (os.cpu_count() or 1) // params.threads
    height, width = TYPICAL_HW
    drawn = f"drawn pictures of {width} x {height} px stand for it"
    absent = dict.fromkeys(one.name for one in data_sets if not one.here)
    found = [f"{name} is not here: {drawn}" for name in absent if not missing]
    if missing:
        found.append(
            f"weights of {', '.join(missing)} are not here, so all is coarse: known times of the "
            f"published models on photographs of {width} x {height} px, at this machine's pace "
            f"(to fetch them: fmbseg download --weights {params.models.profile})"
        )
    else:
        found.insert(0, "all figures of the table are extrapolated from a few images")
    if device.type == "cpu" and params.threads > 1 and share < _BUSY:
        found.append(
            f"other work ran here: the measuring got {share:.0%} of its processor time; alone, "
            f"times would be about {share:.2f} of these"
        )
    if device.type == "cpu" and workers > processors:
        found.append(
            f"{workers} workers are faster than {processors} only on further machines like this"
        )
    return found
