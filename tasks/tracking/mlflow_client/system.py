"""What a run takes of the machine, in MLflow: processor, memory, disk and GPU, every 10 s."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from mlflow.entities import Metric

from fmbseg.steps.workspace import Workspace
from tasks.tracking.mlflow_client.runs import log_metrics
from tasks.tracking.mlflow_client.store import RetryingClient

PREFIX = "system/"
"""MLflow shows metrics of this name on a page of their own."""
PEAK = "peak_memory_megabytes"
"""Metric: the most that the run's processes held of the memory at one time."""
_MEMORY = "process_memory_megabytes"
_EVERY_S = 10.0
_log = logging.getLogger(__name__)
_samplers: dict[str, "_Sampler"] = {}


@contextlib.contextmanager
def system_metrics(root: str) -> Iterator[None]:
    """Measure the machine while the block runs; `log_system` hands MLflow what was measured."""
    place = str(Path(root).resolve())
    sampler = _samplers[place] = _Sampler()
    sampler.start()
    try:
        yield
    finally:
        sampler.stopped.set()
        _samplers.pop(place, None)


def log_system(client: RetryingClient, workspace: Workspace, run: str) -> None:
    """Log to a run what was measured and not logged yet; nothing outside `system_metrics`."""
    sampler = _samplers.get(str(workspace.root.resolve()))
    if sampler is None:
        return
    sampler.sample()
    with sampler.lock:
        if sampler.logged_to != run:
            history = client.get_metric_history(run, f"{PREFIX}{_MEMORY}")
            sampler.step = max((int(m.step) + 1 for m in history), default=0)
            sampler.logged_to = run
        metrics = [
            Metric(f"{PREFIX}{name}", value, when_ms, sampler.step + index)
            for index, (when_ms, values) in enumerate(sampler.pending)
            for name, value in values.items()
        ]
        if metrics:
            metrics.append(Metric(PEAK, sampler.peak, metrics[-1].timestamp, sampler.step))
        log_metrics(client, run, metrics)
        sampler.step += len(sampler.pending)
        sampler.pending.clear()


class _Sampler(threading.Thread):
    """Measures every `_EVERY_S` until it is stopped, or until it cannot; never fails a run.

    Attributes:
        stopped: set to end it.
        lock: held while the following change.
        pending: time in milliseconds and values, not logged yet.
        peak: the most memory so far, in megabytes.
        logged_to: the run that has the values before `pending`.
        step: of the first of `pending` there.
    """

    def __init__(self) -> None:
        super().__init__(name="system metrics", daemon=True)
        self.stopped, self.lock = threading.Event(), threading.Lock()
        self.pending: list[tuple[int, dict[str, float]]] = []
        self.peak, self.step = 0.0, 0
        self.logged_to: str | None = None
        self._monitors: list[Any] | None = None

    def run(self) -> None:
        self.sample()
        while not self.stopped.wait(_EVERY_S):
            self.sample()

    def sample(self) -> None:
        """Measure once more."""
        try:
            with self.lock:
                if not self.stopped.is_set():
                    self.pending.append((int(time.time() * 1000), self._measured()))
        except Exception as error:
            if not self.stopped.is_set():
                _log.warning("MLflow shows no system metrics: %s", error)
            self.stopped.set()

    def _measured(self) -> dict[str, float]:
        if self._monitors is None:
            self._monitors = _monitors()
        values = {_MEMORY: _process_memory_megabytes()}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= {name: float(v) for name, v in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        self.peak = max(self.peak, values[_MEMORY])
        return values


def _monitors() -> list[Any]:
    """MLflow's own, and that of NVIDIA where its library and a GPU are there."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    psutil.cpu_percent(interval=0.1)  # the first value says nothing
    found = [CPUMonitor(), DiskMonitor()]
    with contextlib.suppress(Exception):
        found.append(GPUMonitor())
    return found


def _process_memory_megabytes() -> float:
    """Resident memory of this process and those it started; shared pages count in each."""
    total, own = 0, psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e6
