"""Where shards and evaluations run: threads of this process, or the workers of a Dask cluster."""

import os
from collections.abc import Iterable
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import worker_gpu
from fmbseg.params import RunnerParams
from fmbseg.steps.step import Unit
from tasks.steps import TASKS

ADDRESS = "FMBSEG_DASK_ADDRESS"
"""Environment variable with a scheduler's address; goes before `runner.dask_address`."""


def start(runner: TaskRunner[Any], root: str, unit: Unit) -> PrefectFuture[Any] | None:
    """Start a unit's task on a worker; a step with a single unit runs here, and is then done."""
    if unit.of.mapped:
        future: PrefectFuture[Any] = runner.submit(
            TASKS[unit.of.name], {"root": root, "unit": unit.name}
        )
        return future
    TASKS[unit.of.name](root, unit.name)
    return None


def wait(started: Iterable[PrefectFuture[Any] | None]) -> None:
    """Wait for all; the first failure is raised once every one has ended."""
    futures = [future for future in started if future is not None]
    for future in futures:
        future.wait()
    for future in futures:
        future.result()


def task_runner(params: RunnerParams) -> TaskRunner[Any]:
    """The runner that params.yaml names, to be opened by a `with` block.

    Raises:
        ModuleNotFoundError: `dask` without the extra `fmbseg[dask]`.
    """
    if params.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=params.workers)
    from prefect_dask import DaskTaskRunner

    address = os.environ.get(ADDRESS) or params.dask_address
    # A unit may take all memory there is, as it may in a thread; a worker that dies is replaced
    # and its unit starts again on another.
    cluster = {
        "n_workers": params.workers, "threads_per_worker": 1, "host": "127.0.0.1",
        "memory_limit": 0, "dashboard_address": "127.0.0.1:0", "preload": [worker_gpu.__name__],
    }  # fmt: skip
    where: dict[str, Any] = {"address": address} if address else {"cluster_kwargs": cluster}
    chosen: TaskRunner[Any] = DaskTaskRunner(**where)
    return chosen
