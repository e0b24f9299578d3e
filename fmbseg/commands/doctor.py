"""`fmbseg doctor`: what is installed, on what machine, and what is missing."""

import argparse
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fmbseg.models.status import weights_status
from fmbseg.models.weights import offline_flags
from fmbseg.params import load_params
from fmbseg.steps.departures import departures


def doctor(arguments: argparse.Namespace) -> int:
    """Print versions, device, weights, disk, offline state; 1 when a needed weight is missing."""
    print(f"python      {platform.python_version()} on {platform.platform()}")
    names = ("fmbseg", "torch", "torchvision", "open-clip-torch", "segment-anything", "timm",
             "prefect", "dvc", "mlflow")  # fmt: skip
    for name in names:
        try:
            print(f"{name:<18}{version(name)}")
        except PackageNotFoundError:
            print(f"{name:<18}not installed")
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    elif torch.backends.mps.is_available():
        device = "mps"
    print(f"{'device: auto':<18}{device}, {os.cpu_count()} processors")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    print(f"{'disk':<18}{free:.1f} GB free here")
    flags = ", ".join(offline_flags())
    print(f"{'offline':<18}{flags or 'no flag set: missing weights may be fetched'}")
    params = load_params(arguments.params)
    models = params.models
    overrides = models.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)
    missing = 0
    print(f"weights of the profile {models.profile!r}:")
    for status in weights_status(models.profile, overrides):
        print(f"  {status.model:<8}{status.name:<44}{'present' if status.present else 'MISSING'}")
        print(f"          {status.where}")
        missing += not status.present
    if missing:
        print(f"to fetch them: fmbseg download --weights {models.profile}")
    print(f"settings of {arguments.params} beside the paper's:")
    for one in departures(params):
        print(f"  {'departs' if one.published else 'not published':<15}{one.words()}")
    return 1 if missing else 0
