"""`fmbseg estimate`: time, disk and memory of a whole run, from a sample measured here."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fmbseg.commands import UserError
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Meter
from fmbseg.estimate.models import OBJECTS, PASSING, MeteredModels, MeteredWorkspace
from fmbseg.estimate.project import project, total
from fmbseg.estimate.sample import Samples, samples_of
from fmbseg.estimate.steps import measure
from fmbseg.estimate.table import human_time, lines
from fmbseg.models.device import resolve_device
from fmbseg.params import Params, load_params

_SHARES = 12
"""Of the budget: one for each kind of work (two of SAM's encoder, SAM's decoder, CLIP's images
and names, the vision encoder), as many for all that is not metered."""
_BUSY = 0.8


def estimate(arguments: argparse.Namespace) -> int:
    """Measure a sample and print what a run over all images would take."""
    for name in ("workers", "sample", "budget_seconds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: wanted at least 1")
    params, home = load_params(arguments.params), arguments.params.parent
    workers = arguments.workers or params.runner.workers
    root = arguments.root or home / params.data.benchmarks
    device = resolve_device(params.device)
    torch.set_num_threads(params.threads)
    alone = device.type == "cpu" and params.threads == 1
    meter = Meter(
        arguments.budget_seconds / _SHARES, synchronise=_synchroniser(device),
        # Processor time is that of a machine which does nothing else.
        clock=time.process_time if alone else time.perf_counter,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="fmbseg-estimate-") as folder:
        drawn, scratch = Path(folder) / "drawn", Path(folder) / "scratch"
        drawn.mkdir()
        scratch.mkdir()
        samples = samples_of(params, arguments.images, arguments.sample, root, drawn)
        began = meter.now()
        metered = MeteredModels(params, device, meter)
        workspace = MeteredWorkspace(scratch, params, metered)
        workspace.models()
        built, processor = meter.now(), time.process_time()
        figures = measure(
            workspace, samples, arguments.sample, meter, scratch,
            budget_s=arguments.budget_seconds, models_s=built - began, device=device,
        )  # fmt: skip
        spent = meter.now() - built
    share = (time.process_time() - processor) / spent / params.threads
    rows = project(params, samples, figures, workers=workers)
    train = samples.train
    print(f"{train.title}: {train.images:,} images, {len(train.column.classes)} classes")
    print(
        f"profile {params.models.profile} on {device}, {params.threads} torch thread(s) a process, "
        f"{os.cpu_count()} processors; models built in {human_time(built - began)}, measured for "
        f"{human_time(spent)}"
    )
    for note in _notes(params, samples, metered.random, figures, device, share, workers):
        print(f"! {note}")
    print()
    print("\n".join(lines([*rows, total(rows)], workers)))
    return 0


def _notes(
    params: Params, samples: Samples, random: Sequence[str], figures: Figures,
    device: torch.device, share: float, workers: int,
) -> list[str]:  # fmt: skip
    """What a reader has to know before believing the table."""
    found = ["all figures of the table are extrapolated from a sample; below it stands from what"]
    found += dict.fromkeys(one.note for one in (samples.train, *samples.scored) if one.note)
    rates = [figures.stage1, figures.encode, *(one.rate for one in figures.scored)]
    if any(rate.left_out for rate in rates):
        found.append(
            "measured in part: work beyond the budget was counted, not done, and takes the mean "
            "time of what was done of its kind"
        )
    if random:
        found.append(
            f"weights of {', '.join(random)} are not here: random ones of the same "
            "architecture were timed (to fetch them: fmbseg download --weights "
            f"{params.models.profile})"
        )
    if "sam" in random:
        found.append(
            f"assumed: {PASSING:.0%} of SAM's masks pass min_predicted_iou, and are "
            f"{sum(side**2 for side, _ in OBJECTS)} different discs an image; the time after the "
            "decoder and the masks' sizes on disk and in memory rest on that"
        )
    if figures.guessed_labels:
        found.append("the sample gave no labelled patch; training was timed on drawn labels")
    if device.type == "cpu" and share < _BUSY:
        found.append(
            f"other work ran here: the measuring got {share:.0%} of its processor time; alone, "
            f"times would be about {share:.2f} of these"
        )
    processors = (os.cpu_count() or 1) // params.threads
    if device.type == "cpu" and workers > processors:
        found.append(
            f"{workers} workers are faster than {processors} only on further machines like this"
        )
    return found


def _synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits until a device has done all it was given."""
    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)
