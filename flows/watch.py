"""The flow `watch`: new images in `data.drops`, and corrections, lead to one full run, unattended.

It keeps nothing of its own that could be lost: what is new is what the last finished run did not
cover, and what was asked for is in the server, under the tag `drops:<digest of what came>`.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from flows.orphans import ORPHANED, alive, runs_of
from flows.own_parameters import require_own
from fmbseg.steps import drops, finished
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, read_json, write_json
from tasks.task_logging import reason_first

FULL = "fmbseg/full"
_ACTIVE = [*set(StateType) - TERMINAL_STATES]
_SAID = 20
"""At most this many bad files are named in the log; the artifact lists all."""
_SOON = timedelta(minutes=5)


class NoDeploymentError(RuntimeError):
    """The deployment that runs everything is not there."""


@flow(name="watch")
def watch(root: str = ".") -> str:
    """Look once; start a full run when images came, changed or went, or corrections were accepted.

    Args:
        root: the workspace: `.`, or a folder below runs/ with a params.yaml.
    """
    with alive(), reason_first():
        if runtime.deployment.id is not None:
            require_own(root)
        return _look(root, Workspace.open(root))


def _look(root: str, workspace: Workspace) -> str:
    log, wait = get_run_logger(), workspace.params.drops.settle_seconds
    seen = drops.look(workspace)
    if drops.is_settled(workspace, seen):
        return "nothing new"
    moving, again = seen.fresh(wait), seen
    if not moving:
        time.sleep(wait)
        again = drops.look(workspace)
        moving = sorted(name for name, _ in set(seen.files.items()) ^ set(again.files.items()))
    if moving:
        log.info("%s: still being copied, such as %s", workspace.drops, moving[0])
        return "still being copied"
    found = drops.news(workspace, again)
    _report(workspace, found)
    pause = workspace.params.drops.corrections_settle_seconds
    if found.corrected and again.fresh_corrections(pause):
        log.info("%s: people are still at it; corrections wait", workspace.corrections)
        found = replace(found, corrected=())
        if not found.wants_run:
            return "corrections are still being made"
    if not found.wants_run:
        drops.settle(workspace, again)
        return f"nothing to train on ({len(found.bad)} files cannot be used)"
    log.info(
        "%s: %d images new, %d replaced, %d removed; %d corrections new",
        workspace.drops, len(found.added), len(found.replaced), len(found.removed),
        len(found.corrected),
    )  # fmt: skip
    with get_client(sync_client=True) as client:
        return _request(client, root, workspace, found)


def _request(client: SyncPrefectClient, root: str, workspace: Workspace, found: drops.News) -> str:
    """Ask for a full run, unless one is under way or too many failed on the same images."""
    log, tag = get_run_logger(), f"drops:{found.digest[:12]}"
    try:
        deployment = client.read_deployment_by_name(FULL).id
    except ObjectNotFound:
        raise NoDeploymentError(f"found no deployment {FULL}; start it with `make serve`") from None
    active = runs_of(client, deployment, states=_ACTIVE)
    for run in active:
        start = run.expected_start_time
        if start is None or start < datetime.now(UTC) + _SOON:
            log.info("the full run %s is under way; the next look decides", run.name)
            return "a full run is under way"
    mine = runs_of(client, deployment, tag=tag)
    last = finished.finished_at(workspace)
    failed = [run for run in mine if _failed_since(run, last)]
    if len(failed) >= workspace.params.drops.max_attempts:
        log.error(
            "%d full runs on these images failed (drops.max_attempts), last %s: %s. Look at its "
            "log, mend the cause or take the images away; then `prefect deployment run %s`",
            len(failed), failed[0].name, failed[0].state and failed[0].state.message, FULL,
        )  # fmt: skip
        return "gave up on these images"
    run = client.create_flow_run_from_deployment(
        deployment,
        parameters={"root": root},
        tags=[tag],
        idempotency_key=f"{tag}:{len(mine)}",  # two watchers at once ask for the same run
    )
    log.info("asked for the full run %s (attempt %d, tag %s)", run.name, len(failed) + 1, tag)
    return f"asked for {run.name}"


def _failed_since(run: FlowRun, finished: datetime | None) -> bool:
    """Whether a run failed of itself, and no run has finished since it was asked for."""
    if run.state is None or run.created is None or (finished and run.created < finished):
        return False
    if run.state.type is StateType.FAILED:
        return True
    closed = (run.state.message or "").startswith(ORPHANED)
    return run.state.type is StateType.CRASHED and not closed


def _report(workspace: Workspace, found: drops.News) -> None:
    """Say once per content which files cannot be used: log, artifact, reports/."""
    path = workspace.root / "reports" / "drops-quarantine.json"
    try:
        before = read_json(path)
    except StoreError:
        before = []
    if before == list(found.bad):
        return
    lines = [f"{len(found.bad)} files in `{workspace.params.data.drops}` cannot be used.", ""]
    lines += [f"- `{bad['image']}`: {bad['reason']}" for bad in found.bad]
    for bad in [one for one in found.bad if one not in before][:_SAID]:
        get_run_logger().warning("%s cannot be used: %s", bad["image"], bad["reason"])
    create_markdown_artifact("\n".join(lines), key="drops", description="images not usable")
    write_json(path, list(found.bad))
