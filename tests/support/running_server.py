"""A Prefect server and a served copy of the checkout, for tests; each stopped by its own id."""

import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import REPOSITORY
from tests.support.checkouts import Checkout, Finished, Started, checkout, environment

Value = TypeVar("Value")
ACTIVE = {"SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED"}


_PAGE = 200


@dataclass(frozen=True)
class Served:
    """A copy of the checkout beside a running server.

    Attributes:
        copy: its commands find the server.
        url: of the server's API.
    """

    copy: Checkout
    url: str

    @contextmanager
    def serving(self) -> Iterator[Started]:
        """`python -m flows.serve`, once both deployments are there and asked after."""
        with self.copy.started("-m", "flows.serve") as serve:
            began = time.time()
            for name in ("fmbseg/full", "watch/drops"):
                until(partial(self._polled, name, since=began), 240, serve)
            yield serve

    def request(self, deployment: str, *arguments: str) -> Finished:
        """`prefect deployment run`, to its end."""
        return self.copy.run(
            "-m", "prefect", "deployment", "run", deployment, *arguments, seconds=600
        )  # fmt: skip

    def full(self, parameters: Mapping[str, Any] | None = None) -> Finished:
        """`prefect deployment run fmbseg/full --watch`."""
        given = ["-p", f"parameters={json.dumps(parameters)}"] if parameters else []
        return self.request("fmbseg/full", "--watch", *given)

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """The flow's runs, the oldest first; scheduled ones of the future left out."""
        found: list[dict[str, Any]] = []
        while len(found) % _PAGE == 0:  # no answer holds more
            page = post(
                f"{self.url}/flow_runs/filter",
                {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC",
                 "limit": _PAGE, "offset": len(found)},
            )  # fmt: skip
            if not page:
                break
            found += page
        return [
            run for run in found if run["state_name"] != "Scheduled" or not run["auto_scheduled"]
        ]

    def tasks(self, run: Mapping[str, Any]) -> dict[str, str]:
        """Task run name to state name."""
        found = post(
            f"{self.url}/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}
        )  # fmt: skip
        return {one["name"]: one["state_name"] for one in found}

    def logs(self, run: Mapping[str, Any], least: int = 0) -> list[str]:
        """The run's messages of at least this level, the oldest first."""
        chosen = {"flow_run_id": {"any_": [run["id"]]}, "level": {"ge_": least}}
        found = post(
            f"{self.url}/logs/filter", {"logs": chosen, "sort": "TIMESTAMP_ASC"}
        )  # fmt: skip
        return [line["message"] for line in found]

    def _polled(self, deployment: str, since: float) -> bool:
        try:
            found = get(f"{self.url}/deployments/name/{deployment}")
        except OSError:
            return False
        polled = found["last_polled"]
        return polled is not None and _seconds(polled) >= since - 1


@contextmanager
def served_copy(
    root: Path, outside: Path, sections: Mapping[str, Mapping[str, Any]]
) -> Iterator[Served]:
    """A copy of the checkout (see `checkout`) and a server of its own on a free port."""
    copy = checkout(root, outside, sections)
    shutil.copyfile(REPOSITORY / "prefect.yaml", root / "prefect.yaml")
    with _beside_a_server(copy) as served:
        yield served


@contextmanager
def served_clone(root: Path, outside: Path) -> Iterator[Served]:
    """A clone of the checkout's last commit, as a newcomer has it, and a server of its own."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(root)], check=True)
    (outside / "logs").mkdir(parents=True)
    with _beside_a_server(Checkout(root, environment(root, outside), outside / "logs")) as served:
        yield served


@contextmanager
def _beside_a_server(copy: Checkout) -> Iterator[Served]:
    """A Prefect server with its pages on a free port, which the copy's commands find."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    copy = dataclasses.replace(copy, environment={**copy.environment, "PREFECT_API_URL": url})
    with copy.started(
        "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port
    ) as server:  # fmt: skip
        until(lambda: _is_up(url), 180, server)
        yield Served(copy, url)


def until(check: Callable[[], Value], seconds: float, process: Started | None = None) -> Value:
    """Wait for something true; fails after some seconds, or when the process has ended."""
    began = time.monotonic()
    while not (found := check()):
        if process is not None and process.process.poll() is not None:
            raise AssertionError(f"ended: {process.logs[1].read_text()[-3000:]}")
        assert time.monotonic() - began < seconds, f"waited {seconds} s"
        time.sleep(0.3)
    return found


def post(url: str, body: object) -> Any:
    """POST JSON, get JSON."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def get(url: str) -> Any:
    """GET JSON."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def _is_up(url: str) -> bool:
    try:
        return bool(get(f"{url}/health"))
    except OSError:
        return False


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
