"""Task `version`: check every unit, then commit the outputs to DVC. Only this file runs dvc."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from fmbseg.steps import finished, plan
from fmbseg.steps.corrections import CORRECTIONS
from fmbseg.steps.workspace import Workspace, params_file
from fmbseg.store import file_sha
from tasks import workspace_dvc
from tasks.versioning_params import dvc_lock_kept, record_params

_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
_BAD_LOCK = ("dvc.lock' is invalid", "dvc.lock' validation failed")
_BAD_CLAIMS = ("Unable to read RWLock-file", "RWLock-file '.dvc/tmp/rwlock' format error")
_NO_GIT = "is not a git repository"


class OutdatedError(RuntimeError):
    """The outputs do not belong to the params.yaml, code or data of this moment."""


class DvcBusyError(RuntimeError):
    """Another DVC command holds the repository."""


class DvcError(RuntimeError):
    """DVC refused; the text is what it said."""


def _is_busy(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), DvcBusyError)


@task(
    name="version",
    cache_policy=NO_CACHE,
    retries=6,
    retry_delay_seconds=exponential_backoff(backoff_factor=1),
    retry_condition_fn=_is_busy,
)
def version(root: str, params_sha: str) -> str:
    """Check all units, commit them to DVC, and record what images the run covered.

    Args:
        root: the workspace, or the file of the run's own parameters.
        params_sha: of params.yaml, or of that file, when the run began.

    Returns:
        SHA-256 of dvc.lock; "none" where the workspace is not a DVC repository, or lies outside
        Git, which DVC needs.

    Raises:
        OutdatedError: params.yaml, the code or the data changed under the run; dvc.lock is as it
            was. Corrections that people accepted meanwhile are none of that: the run saw a copy.
        DvcBusyError: another DVC command is at work, or corrections came while DVC looked; tried
            again for a minute.
        DvcError: DVC refused.
    """
    workspace, params = Workspace.open(root), params_file(root)
    _refuse_outdated(workspace, params, params_sha)
    lock = "none"
    if _corrected_meanwhile(workspace):  # DVC would take the newer ones for those of this run
        get_run_logger().info(
            "all units are up to date; corrections were accepted while the run was under way, so "
            "nothing was committed to DVC: the next run takes them and commits"
        )
    elif (problem := workspace_dvc.prepare(workspace.root)) is not None:
        get_run_logger().info("all units are up to date; no DVC here: %s", problem)
    elif (workspace.root / "dvc.yaml").is_file() and (workspace.root / ".dvc").is_dir():
        workspace.evaluate.mkdir(parents=True, exist_ok=True)  # an out of a stage must exist
        for given in (workspace.params.data.drops, workspace.params.data.corrections):
            if not Path(given).is_absolute():
                (workspace.root / given).mkdir(parents=True, exist_ok=True)
        one_at_a_time = FileLock(workspace.root / ".dvc" / "tmp" / "fmbseg.lock")
        with one_at_a_time, dvc_lock_kept(workspace.root):
            if _commit(workspace.root):
                record_params(workspace.root, params)
                # DVC hashed what lay there just now
                _refuse_outdated(workspace, params, params_sha)
                if _corrected_meanwhile(workspace):
                    raise DvcBusyError("corrections were accepted while DVC looked at them")
                lock = file_sha(workspace.root / "dvc.lock")
    finished.remember(workspace)
    return lock


def _refuse_outdated(workspace: Workspace, params: Path, params_sha: str) -> None:
    if file_sha(params) != params_sha:
        raise OutdatedError(
            "params.yaml changed while the run was under way, so nothing was committed to DVC; "
            "finished units are kept: run again with the new params.yaml, or put the old one back"
        )
    found = plan.problem(workspace, but=CORRECTIONS)
    if found is not None:
        raise OutdatedError(
            f"{found} while the run was under way, so nothing was committed to DVC; run again: "
            "only what changed is computed"
        )


def _corrected_meanwhile(workspace: Workspace) -> bool:
    units = plan.units_of(workspace, "download")
    return any(unit.name == CORRECTIONS and unit.problem() is not None for unit in units)


def _commit(repository: Path) -> bool:
    """`dvc commit`; False where there is no Git.

    A lock file that a killed command left half-written is deleted and written anew: all of
    dvc.lock follows from the outputs, and DVC obeys no claim of a list that it cannot read.
    """
    done = _dvc_commit(repository)
    for words, left in ((_BAD_CLAIMS, ".dvc/tmp/rwlock"), (_BAD_LOCK, "dvc.lock")):
        if done.returncode != 0 and any(one in done.stdout + done.stderr for one in words):
            get_run_logger().warning("%s could not be read; it is written anew", left)
            (repository / left).unlink(missing_ok=True)
            done = _dvc_commit(repository)
    if done.returncode == 0:
        get_run_logger().info("all units are up to date and committed to DVC")
        return True
    said = " ".join((done.stdout + done.stderr).split())
    if _NO_GIT in said:
        get_run_logger().info("all units are up to date; no Git repository here, so no DVC commit")
        return False
    if any(words in said for words in _BUSY):
        raise DvcBusyError(f"another DVC command is at work here: {said}")
    raise DvcError(
        f"dvc commit refused (exit code {done.returncode}): {said or 'it said nothing'}; the "
        "outputs are complete: see `dvc status`, then run again"
    )


def _dvc_commit(repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force"],
        cwd=repository, env=os.environ | {"DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
