"""A GPU of its own for every worker of the Dask cluster that a run starts; Dask preloads this.

The workers of a cluster that was started elsewhere see what they were told to see there.
"""

import os
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def dask_setup(worker: Any) -> None:
    """What Dask calls in a worker's process as it starts; workers are numbered from 0."""
    take_gpu(int(worker.name))


def take_gpu(place: int) -> None:
    """Hide all GPUs but one from this process: CUDA looks at the variable when it begins.

    Args:
        place: which one to keep, of those that are visible; a number too large begins anew, so
            that more workers than GPUs share them evenly. Without a GPU nothing changes.
    """
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        import torch

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    if visible:
        gpus = visible.split(",")
        os.environ[_VISIBLE] = gpus[place % len(gpus)]
