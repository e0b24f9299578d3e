"""`fmbseg doctor`: what is installed, on what machine, and what is missing."""

import argparse
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fmbseg.commands.answer import Answer
from fmbseg.commands.params_option import params_option
from fmbseg.errors import NEGATIVE
from fmbseg.models.device import resolve_device
from fmbseg.models.precision import resolve_precision
from fmbseg.models.status import WeightsStatus, missing_weights, weights_status
from fmbseg.models.weights import offline_flags
from fmbseg.project_files import PARAMS
from fmbseg.steps.departures import departures
from fmbseg.steps.foundation_models import overrides_of

_PACKAGES = (
    "fmbseg", "torch", "torchvision", "open-clip-torch", "segment-anything", "timm", "prefect",
    "dvc", "mlflow",
)  # fmt: skip


def doctor(arguments: argparse.Namespace) -> Answer:
    """Print versions, device, weights, disk, offline state; 1 when a model would not load."""
    print(f"python      {platform.python_version()} on {platform.platform()}")
    versions = {name: _version(name) for name in _PACKAGES}
    for name, found in versions.items():
        print(f"{name:<18}{found or 'not installed'}")
    device = resolve_device("auto").type
    if device == "cuda":
        device = f"cuda ({torch.cuda.get_device_name()})"
    precision = resolve_precision("auto", "auto")
    print(f"{'device: auto':<18}{device}, {os.cpu_count()} processors, encoders in {precision}")
    free = shutil.disk_usage(Path.cwd()).free
    print(f"{'disk':<18}{free / 1e9:.1f} GB free here")
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
    departed = departures(params)
    for one in departed:
        print(f"  {'departs' if one.published else 'not published':<15}{one.words()}")
    facts = {
        "python": platform.python_version(), "platform": platform.platform(), "versions": versions,
        "device": device, "processors": os.cpu_count(), "precision": precision,
        "disk_free_bytes": free, "offline_flags": list(offline_flags()),
        "profile": models.profile, "weights": [vars(one) for one in statuses], "params": whose,
        "departures": [{"key": one.key, "words": one.words()} for one in departed],
    }  # fmt: skip
    return Answer(facts, 0 if loads else NEGATIVE)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _lines(status: WeightsStatus) -> list[str]:
    """What stands below a model: its file, or every place that was looked at."""
    word = "present" if status.present else "MISSING" if status.missing else "WRONG"
    first = f"  {status.model:<8}{status.name:<44}{word}"
    if not status.searched:
        return [first, status.where]
    looked = [f"looked for {path}" for path in status.searched]
    return [first, *looked, f"comes from {status.where}" if "://" in status.where else status.where]
