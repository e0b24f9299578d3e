"""The processes that train together: `train.processes` of them here, or those of torchrun.

torchrun starts every process alike, and says in RANK and WORLD_SIZE who is who. Without it the
process that runs the step is the first one: it starts the others, which run the same step as under
torchrun, and it ends with them. All meet in torch's default process group: gloo on processors,
NCCL on GPUs, one GPU each.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import yaml

from fmbseg.steps.workspace import RUN_PARAMS, Workspace

if TYPE_CHECKING:
    from fmbseg.align.ranks import Ranks

_PATIENCE = timedelta(days=1)
"""How long a process waits for the others: one may prepare features meanwhile. One that has ended
is noticed at once."""
_LOOPBACK = "127.0.0.1"
_BACKENDS = ("gloo", "nccl")
_STORE = "FMBSEG_TRAINING_STORE"
"""Port of the store over which processes that the first one has started find each other."""
_HERE = "here"


class TrainingProcessError(RuntimeError):
    """One of the processes that train together has ended."""


def under_torchrun() -> bool:
    """Whether something else has started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def leads() -> bool:
    """Whether this is the first process, or the only one."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def processes(workspace: Workspace) -> int:
    """How many processes train together.

    Raises:
        ValueError: torchrun has started another number than `train.processes` names.
    """
    named = workspace.params.train.processes
    started = int(os.environ["WORLD_SIZE"]) if under_torchrun() else None
    if named == "auto":
        return started or _devices(workspace.params.device)
    if started not in (None, named):
        raise ValueError(
            f"train.processes: found {named}, but torchrun has started {started}; name the same "
            "number in both, or auto"
        )
    if named > 1 and workspace.params.device.startswith("cuda:"):
        raise ValueError(
            f"train.processes: found {named} with device {workspace.params.device}; set device to "
            "cuda, each process takes a GPU of its own"
        )
    return named


def _devices(device: str) -> int:
    import torch

    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") else 1


@contextmanager
def together(workspace: Workspace) -> "Iterator[Ranks]":
    """Join the others while the block runs; where nobody has started them, start them.

    Raises:
        TrainingProcessError: another process has ended before its time.
    """
    from fmbseg.align.ranks import ALONE, Ranks

    count = processes(workspace)
    if under_torchrun():
        rank = int(os.environ["RANK"])
        with _group(
            workspace, int(os.environ.get("LOCAL_RANK", rank)), Ranks(rank, count)
        ) as ranks:
            yield ranks
    elif count == 1:
        yield ALONE
    else:
        with (
            _others(workspace, count) as store,
            _group(workspace, 0, Ranks(0, count), store) as ranks,
        ):
            yield ranks


@contextmanager
def _group(
    workspace: Workspace, local: int, ranks: "Ranks", store: Any = None
) -> "Iterator[Ranks]":
    """Torch's default process group: found by torchrun's variables, or over a store."""
    import torch
    from torch import distributed

    from fmbseg.models.device import resolve_device

    if store is None and _STORE in os.environ:
        store = _store(int(os.environ[_STORE]))
        store.add(_HERE, 1)
    gpu = resolve_device(workspace.params.device).type == "cuda"
    if gpu:
        torch.cuda.set_device(local)  # what is on "cuda" from now on is on this one
    distributed.init_process_group(
        _BACKENDS[gpu], store=store, rank=ranks.rank, world_size=ranks.count, timeout=_PATIENCE
    )
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def _store(port: int) -> Any:
    """The store on that port of this machine; with port 0 one is opened on a free port."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its __all__

    return TCPStore(_LOOPBACK, port, is_master=port == 0, wait_for_workers=False, timeout=_PATIENCE)


@contextmanager
def _others(workspace: Workspace, count: int) -> Iterator[Any]:
    """Start the other processes on this machine; they end with the block, whatever happens."""
    store = _store(0)
    started: list[subprocess.Popen[bytes]] = []
    with _params_file(workspace) as file:
        command = [sys.executable, "-m", "fmbseg.steps", "train", "--workspace", str(file)]
        try:
            for rank in range(1, count):
                told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, _STORE: store.port}
                environment = os.environ | {name: str(one) for name, one in told.items()}
                started.append(subprocess.Popen(command, env=environment, stdout=sys.stderr))
            while store.add(_HERE, 0) < len(started):
                if any(one.poll() is not None for one in started):
                    raise TrainingProcessError("train: another process has not joined")
                time.sleep(0.05)
            yield store
            for one in started:
                one.wait()
        except Exception as error:
            _say_who_ended(started, error)
            raise
        finally:
            for one in started:
                one.kill()
                one.wait()


def _say_who_ended(started: "list[subprocess.Popen[bytes]]", error: Exception) -> None:
    """Where another process has failed, the error here is only what came of it."""
    for rank, one in enumerate(started, start=1):
        with suppress(subprocess.TimeoutExpired):
            if code := one.wait(1.0):
                raise TrainingProcessError(
                    f"train: process {rank} of {len(started) + 1} ended with exit code {code}; its "
                    "own words stand above; the same command goes on at the last checkpoint"
                ) from error


@contextmanager
def _params_file(workspace: Workspace) -> Iterator[Path]:
    """The workspace's parameters as this process has them, for others to read."""
    folder = workspace.root / RUN_PARAMS
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=folder, prefix="ranks-", suffix=".yaml") as file:
        yaml.safe_dump(workspace.params.model_dump(mode="json"), file)
        file.flush()
        yield Path(file.name)
