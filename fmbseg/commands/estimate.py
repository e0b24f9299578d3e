"""`fmbseg estimate`: time, disk and memory of a whole run, from a sample measured here."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fmbseg.commands import UserError
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Meter
from fmbseg.estimate.models import OBJECTS, PASSING, MeteredModels, build_metered
from fmbseg.estimate.project import project, total
from fmbseg.estimate.sample import Sample, sample_of
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
    params = load_params(arguments.params)
    workers = arguments.workers or params.runner.workers
    device = resolve_device(params.device)
    torch.set_num_threads(params.threads)
    meter = Meter(arguments.budget_seconds / _SHARES, synchronise=_synchroniser(device))
    with tempfile.TemporaryDirectory(prefix="fmbseg-estimate-") as folder:
        drawn, scratch = Path(folder) / "drawn", Path(folder) / "scratch"
        drawn.mkdir()
        scratch.mkdir()
        sample = sample_of(params, arguments.images, arguments.sample, arguments.root, drawn)
        began = meter.now()
        metered = build_metered(params, device, meter)
        built, processor = meter.now(), time.process_time()
        figures = measure(
            params, sample, metered, meter, scratch,
            budget_s=arguments.budget_seconds, device=device,
        )  # fmt: skip
        spent = meter.now() - built
    share = (time.process_time() - processor) / spent / params.threads
    rows = project(params, sample, figures, workers=workers, clip_bytes=metered.clip_bytes)
    print(f"{sample.title}: {sample.images:,} images, {len(sample.vocabulary)} classes")
    print(
        f"profile {params.models.profile} on {device}, {params.threads} torch thread(s) a process, "
        f"{os.cpu_count()} processors; models built in {human_time(built - began)}, measured for "
        f"{human_time(spent)}"
    )
    for note in _notes(params, sample, metered, figures, device, share, workers):
        print(f"! {note}")
    print()
    print("\n".join(lines([*rows, total(rows)], workers)))
    return 0


def _notes(
    params: Params, sample: Sample, metered: MeteredModels, figures: Figures,
    device: torch.device, share: float, workers: int,
) -> list[str]:  # fmt: skip
    """What a reader has to know before believing the table."""
    found = ["all figures of the table are extrapolated from the sample; see below it for how"]
    if sample.note:
        found.append(sample.note)
    if metered.random:
        found.append(
            f"weights of {', '.join(metered.random)} are not here: random ones of the same "
            "architecture were timed (to fetch them: fmbseg download --weights "
            f"{params.models.profile})"
        )
    if "sam" in metered.random:
        found.append(
            f"assumed: {PASSING:.0%} of SAM's masks pass min_predicted_iou, and are "
            f"{sum(side**2 for side, _ in OBJECTS)} different discs an image; the time after the "
            "decoder and the masks' sizes on disk and in memory rest on that"
        )
    if figures.guessed_labels:
        found.append("the sample gave no labelled patch; training was timed on drawn labels")
    if figures.unknown_methods:
        found.append(f"not measured: {', '.join(figures.unknown_methods)}")
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
    if sample.scored_images:
        found.append(f"evaluation: {sample.scored_images:,} images a method; report not measured")
    return found


def _synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits until a device has done all it was given."""
    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)
