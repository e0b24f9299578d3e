"""Flow runs whose process was killed: found by a lock that the kernel frees, and closed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from filelock import FileLock, Timeout
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
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
    for flow, name in deployments.items():
        try:
            deployment = client.read_deployment_by_name(f"{flow}/{name}").id
        except ObjectNotFound:  # never served from this server
            continue
        for run in runs_of(client, deployment, states=_OPEN):
            if _works(run.id):
                continue
            message = f"{ORPHANED}. Nothing finished is lost; the next run goes on."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            _lock(run.id).unlink(missing_ok=True)
            closed.append(run)
    return closed


def runs_of(
    client: SyncPrefectClient,
    deployment: UUID,
    *,
    states: list[StateType] | None = None,
    tag: str | None = None,
) -> list[FlowRun]:
    """Runs of a deployment in one of the states, or with a tag; the newest first."""
    chosen = {
        "deployment_id": {"any_": [deployment]},
        "state": {"type": {"any_": states}} if states else None,
        "tags": {"all_": [tag]} if tag else None,
    }
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(chosen))
    return sorted(found, key=lambda run: run.created or datetime.now(UTC), reverse=True)


def _lock(run: UUID | str) -> Path:
    return LOCKS / f"{run}.lock"


def _works(run: UUID) -> bool:
    """Whether a process holds the run's lock."""
    try:
        with FileLock(_lock(run), blocking=False):
            return False
    except Timeout:
        return True
