"""Task `version`: every unit is checked, then the outputs are committed to DVC. The only dvc."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from fmbseg.steps import drops, units
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha


class OutdatedError(RuntimeError):
    """The outputs do not belong to what stands in params.yaml, the code or the data now."""


class DvcBusyError(RuntimeError):
    """Another DVC command holds the repository."""


class DvcError(RuntimeError):
    """DVC refused; the text is what it said."""


def _is_busy(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result(raise_on_failure=True)
    except DvcBusyError:
        return True
    except BaseException:
        return False
    return False


@task(
    name="version",
    tags=["version"],
    cache_policy=NO_CACHE,
    retries=6,
    retry_delay_seconds=exponential_backoff(backoff_factor=1),
    retry_condition_fn=_is_busy,
)
def version(root: str, params_sha: str) -> str:
    """Check all units, commit them to DVC, and record what images the run covered.

    Args:
        root: the workspace.
        params_sha: of params.yaml when the run began.

    Returns:
        SHA-256 of dvc.lock; "none" where the workspace is not a DVC repository.

    Raises:
        OutdatedError: params.yaml, the code or the data changed under the run; nothing is
            committed.
        DvcBusyError: another DVC command is at work; tried again for a minute.
        DvcError: DVC refused.
    """
    workspace = Workspace.open(root)
    if file_sha(workspace.root / "params.yaml") != params_sha:
        raise OutdatedError(
            "params.yaml changed while the run was under way, so nothing was committed to DVC; "
            "finished units are kept: run again with the new params.yaml, or put the old one back"
        )
    found = units.problem(workspace)
    if found is not None:
        raise OutdatedError(
            f"{found} while the run was under way, so nothing was committed to DVC; run again: "
            "only what changed is computed"
        )
    lock = "none"
    if (workspace.root / "dvc.yaml").is_file() and (workspace.root / ".dvc").is_dir():
        workspace.evaluate.mkdir(parents=True, exist_ok=True)  # an out of a stage must exist
        workspace.drops.mkdir(parents=True, exist_ok=True)
        _commit(workspace.root)
        lock = file_sha(workspace.root / "dvc.lock")
        get_run_logger().info("all units are up to date and committed to DVC (%s)", lock[:12])
    drops.remember(workspace)
    return lock


def _commit(repository: Path) -> None:
    """`dvc commit`, one at a time: a second run here waits for the first."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true"}
    (repository / ".dvc" / "tmp").mkdir(exist_ok=True)
    with (repository / ".dvc" / "tmp" / "fmbseg.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"],
            cwd=repository, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == 0:
        return
    said = " ".join((done.stderr or done.stdout).split())
    if "lock" in said.lower() and "dvc.lock" not in said.lower():
        raise DvcBusyError(f"another DVC command is at work here: {said}")
    raise DvcError(f"dvc commit refused: {said}; the outputs are complete, see `dvc status`")
