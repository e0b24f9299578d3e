"""MLflow: the task `track` at the end of a run, the log of a training that runs, the champion.

All of it reads the steps' files, so a run holds the same whether steps ran, were cached, or were
made by DVC. What a run holds and when a model is promoted know no tracker; `mlflow_client/` alone
imports mlflow.
"""

import contextlib
import threading
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fmbseg.steps.workspace import Workspace
from tasks.tracking.mlflow_client.complete import log_state
from tasks.tracking.mlflow_client.registry import fetch_champion
from tasks.tracking.mlflow_client.store import PatientClient, is_momentary, store_uri
from tasks.tracking.mlflow_client.system import system_metrics
from tasks.tracking.mlflow_client.training import training_log

__all__ = ["connect_early", "fetch_champion", "system_metrics", "track", "training_log"]


def _store_was_busy(task: Any, task_run: Any, state: Any) -> bool:
    """Prefect asks whether to try again: only where waiting can help."""
    try:
        state.result()
    except Exception as error:
        return is_momentary(error)
    return False


@task(
    name="track",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 10, 60],
    retry_condition_fn=_store_was_busy,
)
def track(root: str) -> str:
    """Complete the run of the training, or log one, with all that the steps left.

    A state that was logged before is not logged twice.

    Returns:
        The MLflow run's id.
    """
    return log_state(root)


def connect_early(root: str) -> None:
    """Connect in the background: a new database takes seconds, which stage 1 leaves free.

    Whoever needs the store then finds it open, or meets the error that is kept quiet here.
    """
    uri = store_uri(Workspace.open(root))

    def connect() -> None:
        with contextlib.suppress(Exception):
            PatientClient(uri, waits_s=())

    threading.Thread(target=connect, name="connect to MLflow", daemon=True).start()
