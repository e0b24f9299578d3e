"""Flow runs whose process was killed: found by a lock that the kernel frees, and closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

LOCKS = Path(".scratch") / "flow-runs"
ORPHANED = "its process is gone: killed, or the machine was restarted"
"""How the message of a run closed here begins."""

_OPEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@contextmanager
def alive() -> Iterator[None]:
    """Hold the flow run's lock for as long as its process lives; nothing outside a flow run."""
    run = runtime.flow_run.id
    if run is None:
        yield
        return
    path = _lock(run)
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def close_orphans(client: SyncPrefectClient, deployments: dict[str, str]) -> list[FlowRun]:
    """Set runs that no process of this checkout works on to Crashed, so that their slot is free.

    To be called by the only executor of these deployments, before it takes up work.

    Args:
        client: of the server.
        deployments: flow name to deployment name.

    Returns:
        The runs that were closed.
    """
    closed = []
    for flow, deployment in deployments.items():
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[deployment])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_OPEN))
            ),
        )
        for run in found:
            if _works(run.id):
                continue
            message = f"{ORPHANED}. Nothing finished is lost; the next run goes on."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            _lock(run.id).unlink(missing_ok=True)
            closed.append(run)
    return closed


def _lock(run: UUID | str) -> Path:
    return LOCKS / f"{run}.lock"


def _works(run: UUID) -> bool:
    """Whether a process holds the run's lock."""
    path = _lock(run)
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
