"""Tracking of runs: the task `track` at the end of a run, the log of a training while it runs.

All of it reads the steps' files, so a run holds the same whether steps ran, were cached, or were
made by DVC. What a run holds (`facts`, `run_figures`, `changes`) and when a model is promoted
(`promotion`) know no tracker. The tracker is `mlflow_client`, the only package that imports mlflow.
"""

import contextlib
import threading
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fmbseg.steps.workspace import Workspace
from tasks.tracking import mlflow_client as tracker

fetch_champion = tracker.fetch_champion
run_links = tracker.run_links
store_file = tracker.store_file
system_metrics = tracker.system_metrics
training_log = tracker.training_log


def _is_transient(task: Any, task_run: Any, state: Any) -> bool:
    """Prefect asks whether to try again: only where waiting can help."""
    return tracker.is_transient(state.result(raise_on_failure=False))


@task(
    name="track",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 10, 60],
    retry_condition_fn=_is_transient,
)
def track(root: str) -> str:
    """Complete the run of the training, or log one, with all that the steps left.

    A state that was logged before is not logged twice.

    Returns:
        The tracked run's id.
    """
    return tracker.log_state(root)


def connect_early(root: str) -> None:
    """Connect in the background: a new database takes seconds, which stage 1 leaves free.

    Whoever needs the store then finds it open, or meets the error that is suppressed here.
    """
    uri = tracker.store_uri(Workspace.open(root))

    def connect() -> None:
        with contextlib.suppress(Exception):
            tracker.connect(uri)

    threading.Thread(target=connect, name="connect to the tracker", daemon=True).start()
