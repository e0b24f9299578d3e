"""Where models run."""

import torch


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a device's name into a device that is there.

    Args:
        device: "auto" (CUDA, else Apple's MPS, else the CPU) or any name torch knows.

    Raises:
        ValueError: torch does not know the name, or the machine lacks the device.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device: found {device!r}, wanted auto, cpu, cuda or mps") from error
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(resolved.type, True):
        raise ValueError(
            f"device: found {device!r}, but torch sees no such device here; use auto or cpu"
        )
    return resolved
