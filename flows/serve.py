"""`make serve`: the deployments `fmbseg/full` and `watch/drops`, run on this machine when asked.

prefect deployment run fmbseg/full --watch [-p parameters='{"epochs": 30}']
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version as package_version
from pathlib import Path

# No progress bars among a server's lines. Before tqdm is loaded.
os.environ.setdefault("TQDM_DISABLE", "1")

from filelock import FileLock, Timeout
from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL

from flows.api import answering
from flows.orphans import close_orphans
from fmbseg.params import ParamsError, load_params

LOCK = Path(".scratch") / "serve.lock"
DEPLOYMENTS = {"fmbseg": "full", "watch": "drops"}
"""Flow to deployment."""
_POLL_SECONDS = 1.0


class ServeError(RuntimeError):
    """The deployments cannot be served; the text says what to do."""


def main() -> int:
    """Serve until stopped; returns the exit code."""
    try:
        interval = timedelta(seconds=load_params("params.yaml").drops.interval_seconds)
        with _only_one():
            url = answering()
            if url is None:
                raise ServeError(
                    f"no Prefect server answers at {PREFECT_API_URL.value()}; start one in another "
                    "terminal with `make server` (or set PREFECT_API_URL)"
                )
            _close_orphans()
            print(f"==> serving at {url}; stop with Ctrl-C", flush=True)
            try:
                serve(*deployments(interval), query_seconds=_POLL_SECONDS)
            finally:
                if answering():
                    _close_orphans()
    except (ParamsError, ServeError) as error:
        print(f"fmbseg: {error}", file=sys.stderr)
        return 1
    return 0


def deployments(interval: timedelta) -> list[RunnerDeployment]:
    """`fmbseg/full`, one run at a time, further ones queue; `watch/drops`, every `interval`."""
    from flows.pipeline import fmbseg
    from flows.watch import watch

    full = RunnerDeployment.from_flow(
        fmbseg,
        DEPLOYMENTS["fmbseg"],
        description=(
            "Images and class names in; masks, a segmenter, figures and a report out. The form "
            "shows the values of params.yaml when `make serve` began; what is changed there holds "
            "for the one run, unless `keep` is ticked."
        ),
        tags=["fmbseg"],
        version=_version(),
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
        ),
    )
    drops = RunnerDeployment.from_flow(
        watch,
        DEPLOYMENTS["watch"],
        interval=interval,
        description="Looks into data.drops; new images lead to a run of fmbseg/full.",
        tags=["fmbseg"],
        version=_version(),
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
    )
    return [full, drops]


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the lock of this checkout's serve; its file says which process holds it.

    Raises:
        ServeError: another process holds it.
    """
    try:
        held = FileLock(LOCK).acquire(blocking=False)
    except Timeout:
        raise ServeError(
            f"the process {LOCK.read_text().strip() or '?'} serves this checkout already "
            f"({LOCK}); stop it first, or use it"
        ) from None
    with held:
        LOCK.write_text(str(os.getpid()))
        yield


def _close_orphans() -> None:
    with get_client(sync_client=True) as client:
        for run in close_orphans(client, DEPLOYMENTS):
            print(f"==> {run.name}: its process is gone; closed as Crashed", flush=True)


def _version() -> str:
    """The git commit, or the package's version where there is none."""
    command, commit = ["git", "rev-parse", "--short=12", "HEAD"], ""
    with suppress(FileNotFoundError):  # no git
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return commit or package_version("fmbseg")


if __name__ == "__main__":
    sys.exit(main())
