"""MLflow: the task `track` at the end of a run, the log of a training that runs, the champion.

All of it reads the steps' files, so a run holds the same whether steps ran, were cached, or were
made by DVC. `python -m tasks.tracking [WORKSPACE]` logs what `dvc repro` or `dvc exp run` left,
with no flow and no server of Prefect. Only this file's neighbours `tracking_*.py` and
`segmenter_model.py` import mlflow.
"""

import argparse
import contextlib
import logging
import sys
import threading
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fmbseg.params import ParamsError, redact
from fmbseg.steps import units
from fmbseg.steps.workspace import Workspace
from tasks.tracking_champion import fetch_champion
from tasks.tracking_live import training_log
from tasks.tracking_state import log_state
from tasks.tracking_store import PatientClient, is_momentary, store_uri
from tasks.tracking_system import system_metrics

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


def main() -> int:
    """Log one workspace from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.tracking",
        description="Log the finished outputs of a workspace to MLflow.",
    )
    parser.add_argument("workspace", nargs="?", default=".", help="folder with params.yaml")
    root = parser.parse_args().workspace
    logging.basicConfig(format="tracking: %(message)s")
    logging.getLogger("tasks").setLevel(logging.INFO)
    try:
        workspace = Workspace.open(root)
        if found := units.problem(workspace):
            raise ParamsError(f"{found}; finish the outputs first, with `dvc repro` or `make run`")
        run = log_state(root)
    except Exception as error:
        print(f"tracking: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    print(f"tracking: MLflow run {run} in {redact(store_uri(workspace))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
