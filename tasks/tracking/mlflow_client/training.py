"""A training in MLflow while it runs: found again after a kill, never in the training's way."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fmbseg.params import redact
from fmbseg.steps import train as train_step
from fmbseg.steps.workspace import Workspace
from tasks.tracking.facts import flat_params
from tasks.tracking.mlflow_client import runs
from tasks.tracking.mlflow_client.store import RetryingClient, experiment_id, store_uri
from tasks.tracking.mlflow_client.system import log_system

if TYPE_CHECKING:
    from fmbseg.align.checkpoint import OnPoints

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 30.0
_SYSTEM_EVERY_S = 30.0
_TRAIN_PARAMS = (
    "seed", "device", "runtime.precision", "train.", "models.profile", "models.clip",
    "models.vision",
)  # fmt: skip


@contextlib.contextmanager
def training_log(root: str) -> "Iterator[OnPoints]":
    """Show a training in MLflow while it runs: hand what this yields to the step as `on_points`.

    The run is looked for (of the same unit's key, in the same workspace, not finished) or made
    when the first points come, and stays open for `track`. Where MLflow fails, the training goes
    on: one warning, another try after 30 s, 60 s, ..., and `track` logs what is missing.
    """
    log = _TrainingLog(Workspace.open(root))
    try:
        yield log
    except Exception:
        log.close("FAILED")
        raise
    except BaseException:
        log.close("KILLED")
        raise
    log.close(None)


class _TrainingLog:
    """Logs new points to the training's run; never raises."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._client: RetryingClient | None = None
        self._run: str | None = None
        self._last: int | None = None
        self._pending: list[dict[str, float]] = []
        self._measured = -_SYSTEM_EVERY_S
        self._warned, self._pause_s, self._not_before = False, _FIRST_PAUSE_S, 0.0

    def __call__(self, points: Sequence[dict[str, float]]) -> None:
        self._pending += points
        if time.monotonic() >= self._not_before:
            self._try()

    def close(self, status: str | None) -> None:
        """Log what waits; with a status, end the run with it."""
        if self._pending:
            self._try()
        if status and self._run and self._client:
            with contextlib.suppress(Exception):
                self._client.set_terminated(self._run, status)

    def _try(self) -> None:
        try:
            self._flush()
        except Exception as error:
            self._last = None  # it may or may not have arrived
            self._not_before = time.monotonic() + self._pause_s
            self._pause_s *= 2
            if not self._warned:
                self._warned = True
                _log.warning(
                    "train: goes on, but MLflow cannot be written to now: %s", redact(str(error))
                )

    def _flush(self) -> None:
        if self._client is None:
            self._client = RetryingClient(store_uri(self._workspace), waits_s=())
        if self._run is None:
            self._run = _open(self._client, self._workspace)
        if self._last is None:
            self._last = runs.last_step(self._client, self._run)
        losses = [point for point in self._pending if "loss" in point]
        self._last = runs.log_points(self._client, self._run, losses, self._last)
        curve = [point for point in self._pending if "miou" in point]
        runs.log_validation(self._client, self._run, curve)
        self._pending.clear()
        if time.monotonic() - self._measured >= _SYSTEM_EVERY_S:
            self._measured = time.monotonic()
            log_system(self._client, self._workspace, self._run)


def _open(client: RetryingClient, workspace: Workspace) -> str:
    """The run of this training, resumed or new; other runs of the workspace were given up."""
    experiment = experiment_id(client, workspace)
    train_key = train_step.key(workspace).digest
    for other in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if runs.is_of(other, workspace) and other.data.tags.get(runs.TRAIN_KEY) != train_key:
            client.set_terminated(other.info.run_id, "KILLED")
    begun = runs.unfinished_runs(client, experiment, workspace, train_key)
    if not begun:
        run = runs.create_run(client, experiment, workspace, train_key)
        params = flat_params(workspace)
        mine = {name: params[name] for name in params if name.startswith(_TRAIN_PARAMS)}
        runs.log_facts(client, run, {}, mine)
        return run
    run = str(begun[0].info.run_id)
    client.update_run(run, status="RUNNING")
    client.set_tag(run, "resumed", str(int(begun[0].data.tags.get("resumed", 0)) + 1))
    return run
