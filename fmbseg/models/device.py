"""Where models run."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_KINDS = ("cpu", "cuda", "mps")


def resolve_device(device: "str | torch.device") -> "torch.device":
    """Turn a device's name into a device that is there.

    A device of CUDA gets what trainings that repeat to the last bit need of cuBLAS, which reads it
    once, as CUDA begins: CUBLAS_WORKSPACE_CONFIG, where nobody has set it (torch, Reproducibility).

    Args:
        device: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ValueError: no such name, or the machine lacks the device.
    """
    import torch

    if str(device) == "auto":
        if torch.cuda.is_available():
            return resolve_device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:  # torch's own text is a page
        resolved = None
    if resolved is None or resolved.type not in _KINDS:
        raise ValueError(f"device: found {str(device)!r}; wanted auto, cpu, cuda, cuda:1 or mps")
    there = {
        "cuda": torch.cuda.is_available() and (resolved.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(resolved.type, True):
        raise ValueError(
            f"device: found {str(device)!r}, but torch sees no such device here; use auto or cpu"
        )
    if resolved.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return resolved


def device_of(model: object) -> "torch.device":
    """Where a model computes; the CPU where it does not say."""
    import torch

    device: torch.device = getattr(model, "device", torch.device("cpu"))
    return device


def pinned(values: "Tensor", device: "torch.device") -> "Tensor":
    """The same numbers in memory from which CUDA copies while it computes; unchanged elsewhere."""
    import torch

    cuda = device.type == "cuda" and torch.cuda.is_available()
    return values.pin_memory() if cuda else values


def moved(values: "Tensor", device: "torch.device") -> "Tensor":
    """Numbers of the CPU on a device; from pinned memory without waiting for the copy."""
    return values.to(device, non_blocking=True)
