"""`fmbseg estimate`: time, disk and memory of a whole run, from a few images measured here."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fmbseg.commands import UserError
from fmbseg.commands.params_option import params_option
from fmbseg.estimate.forecast import forecast
from fmbseg.estimate.measure import Figures, measure
from fmbseg.estimate.meter import Meter
from fmbseg.estimate.models import MeasuredWorkspace
from fmbseg.estimate.sample import DataSet, data_sets_of
from fmbseg.estimate.table import human_time, lines
from fmbseg.estimate.to_do import rest_of_run, whole_run
from fmbseg.models.device import resolve_device
from fmbseg.params import Params
from fmbseg.section import Section

_BUSY = 0.8


def estimate(arguments: argparse.Namespace) -> int:
    """Measure some images and print what a run over all of them would take."""
    for name in ("workers", "sample", "budget_seconds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: wanted at least 1")
    home = params_option(arguments.params)
    params, images = _asked_for(home.params, arguments)
    workers = arguments.workers or params.runner.workers
    device = resolve_device(params.device)
    torch.set_num_threads(params.threads)
    # Processor time is that of a machine which does nothing else.
    alone = device.type == "cpu" and params.threads == 1
    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    meter = Meter(
        time.process_time if alone else time.perf_counter, waits.get(device.type, lambda: None)
    )
    root = arguments.root or home.root / params.data.benchmarks
    train, scored = data_sets_of(params, images, root)
    rest = None if arguments.images else rest_of_run(replace(home, params=params))
    to_do = rest or whole_run(params, train, scored)
    if not to_do.shards and set(to_do.units) <= {"report"}:
        print(f"{train.title}: all is up to date, nothing is left to compute")
        return 0
    began, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="fmbseg-estimate-") as folder:
        workspace = MeasuredWorkspace(Path(folder), params, device, meter)
        figures = measure(workspace, train, scored, arguments.sample, arguments.budget_seconds)
    spent = time.perf_counter() - began
    share = (time.process_time() - processor) / spent / params.threads
    print(f"{train.title}: {train.images:,} images, {len(train.classes)} classes")
    print(
        f"profile {params.models.profile} on {device}, {params.threads} torch thread(s) a process, "
        f"{os.cpu_count()} processors; measured for {human_time(spent)}, of which the models' "
        f"building took {human_time(figures.models_s)}"
    )
    for note in _notes(workspace, (train, *scored), figures, share, workers):
        print(f"! {note}")
    rows = forecast(params, train, scored, figures, to_do, workers)
    print("", *lines(rows, workers), sep="\n")
    return 0


def _asked_for(params: Params, arguments: argparse.Namespace) -> tuple[Params, str | None]:
    """The parameters with the folder and profile asked for, and --images where it is no folder."""
    changes: dict[str, Section] = {}
    images: str | None = arguments.images
    if images is not None and Path(images).is_dir():
        if arguments.classes is None:
            raise UserError("--images names a folder; wanted --classes FILE with its class names")
        classes = str(arguments.classes)
        changes["data"] = params.data.changed(images=images, classes=classes, labels=None)
        images = None
    elif arguments.classes is not None:
        raise UserError("--classes: wanted --images FOLDER beside it")
    if arguments.profile is not None:
        changes["models"] = params.models.changed(profile=arguments.profile)
    return params.model_copy(update=changes), images


def _notes(
    workspace: MeasuredWorkspace, data_sets: Sequence[DataSet], figures: Figures, share: float,
    workers: int,
) -> list[str]:  # fmt: skip
    """What a reader has to know before believing the table."""
    params, random = workspace.params, workspace.random
    found = ["all figures of the table are extrapolated from a few images; below it stands which"]
    for one in data_sets:
        if one.drawn_hw is not None:
            height, width = one.drawn_hw
            found.append(
                f"{one.name} is not here: drawn pictures of {width} x {height} px stand for it"
            )
    if any(cost.asked != cost.done for cost in figures.costs.values()):
        found.append(
            "measured in part: work beyond the budget was counted, and takes as long as the same "
            "work before it; masks were left out, so disk and memory are of typical photographs"
        )
    if random:
        found.append(
            f"weights of {', '.join(random)} are not here: random ones of the same "
            "architecture were timed (to fetch them: fmbseg download --weights "
            f"{params.models.profile})"
        )
    if "sam" in random:
        found.append(
            "assumed: half of SAM's masks pass min_predicted_iou, and their files are as large as "
            "those of typical photographs"
        )
    on_cpu, processors = workspace.device.type == "cpu", (os.cpu_count() or 1) // params.threads
    if on_cpu and params.threads > 1 and share < _BUSY:
        found.append(
            f"other work ran here: the measuring got {share:.0%} of its processor time; alone, "
            f"times would be about {share:.2f} of these"
        )
    if on_cpu and workers > processors:
        found.append(
            f"{workers} workers are faster than {processors} only on further machines like this"
        )
    return list(dict.fromkeys(found))
