"""`fmbseg doctor`: what is installed, on what machine, and what is missing."""

import argparse
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fmbseg.commands.params_option import params_option
from fmbseg.models.device import resolve_device
from fmbseg.models.precision import resolve_precision
from fmbseg.models.status import WeightsStatus, missing_weights, weights_status
from fmbseg.models.weights import offline_flags
from fmbseg.project_files import PARAMS
from fmbseg.steps.departures import departures
from fmbseg.steps.foundation_models import overrides_of


def doctor(arguments: argparse.Namespace) -> int:
    """Print versions, device, weights, disk, offline state; 1 when a model would not load."""
    print(f"python      {platform.python_version()} on {platform.platform()}")
    names = ("fmbseg", "torch", "torchvision", "open-clip-torch", "segment-anything", "timm",
             "prefect", "dvc", "mlflow")  # fmt: skip
    for name in names:
        try:
            print(f"{name:<18}{version(name)}")
        except PackageNotFoundError:
            print(f"{name:<18}not installed")
    device = resolve_device("auto").type
    if device == "cuda":
        device = f"cuda ({torch.cuda.get_device_name()})"
    encoders = f"encoders in {resolve_precision('auto', 'auto')}"
    print(f"{'device: auto':<18}{device}, {os.cpu_count()} processors, {encoders}")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    print(f"{'disk':<18}{free:.1f} GB free here")
    flags = ", ".join(offline_flags())
    words = f"{flags} set: fmbseg download is refused in this shell" if flags else "no flag set"
    print(f"{'offline':<18}{words}")
    params = params_option(arguments.params).params
    models = params.models
    overrides = overrides_of(models)
    print(f"weights of the profile {models.profile!r}, compared with their architectures:")
    statuses = weights_status(models.profile, overrides, checksums=True)
    for status in statuses:
        print("\n          ".join(_lines(status)))
    loads = all(status.present for status in statuses)
    if not loads:
        print(missing_weights(models.profile, overrides) or "the files named above will not load")
    file = arguments.params or PARAMS
    whose = str(file) if file.is_file() else "the defaults (no params.yaml here)"
    print(f"settings of {whose} beside the paper's:")
    for one in departures(params):
        print(f"  {'departs' if one.published else 'not published':<15}{one.words()}")
    return 0 if loads else 1


def _lines(status: WeightsStatus) -> list[str]:
    """What stands below a model: its file, or every place that was looked at."""
    word = "present" if status.present else "MISSING" if status.missing else "WRONG"
    first = f"  {status.model:<8}{status.name:<44}{word}"
    if not status.searched:
        return [first, status.where]
    looked = [f"looked for {path}" for path in status.searched]
    return [first, *looked, f"comes from {status.where}" if "://" in status.where else status.where]
