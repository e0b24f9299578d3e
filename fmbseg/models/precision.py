"""In which floating-point numbers the frozen encoders compute."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""One of these files is there where torch may find CUDA: NVIDIA's driver, WSL's, AMD's."""


def resolve_precision(
    asked: Literal["auto"] | Precision, device: "str | torch.device"
) -> Precision:
    """What `runtime.precision` stands for on a device.

    Without an accelerator the answer needs no torch, so that a look at a workspace stays quick.

    Args:
        asked: a precision, which is taken as it is, or "auto".
        device: "auto" or a device of torch.

    Returns:
        For "auto" float32 on the CPU and on Apple's MPS; on CUDA bfloat16 where the device
        computes in it, else float16.
    """
    if asked != "auto":
        return asked
    if not str(device).startswith(("auto", "cuda")):
        return "float32"
    return _of_cuda("cuda" if str(device) == "auto" else str(device))


@functools.cache
def _of_cuda(device: str) -> Precision:
    """What "auto" is on a CUDA device; float32 where there is none."""
    if sys.platform == "linux" and not any(Path(file).exists() for file in _ACCELERATORS):
        return "float32"
    import torch

    if not torch.cuda.is_available():
        return "float32"
    with torch.cuda.device(device):
        capable = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if capable else "float16"


@contextlib.contextmanager
def encoding(device: "torch.device", precision: Precision) -> Iterator[None]:
    """A frozen encoder's pass: no gradients; products of matrices in the precision, by autocast.

    What leaves the pass is to be made float32 by the caller.
    """
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if precision != "float32":
            stack.enter_context(torch.autocast(device.type, getattr(torch, precision)))
        yield
